/**
 * A program for tests: makes, closes and removes a few files in a directory of its own, over and over, so that records of the
 * server are used again at once. Its arguments are the directory and milliseconds. It fails with the first operation that does.
 */
import { closeSync, mkdirSync, openSync, rmdirSync, unlinkSync } from 'node:fs';

const [directory = '', durationText = '1000'] = process.argv.slice(2);
const until = performance.now() + Number(durationText);
const files = [0, 1, 2, 3].map((index) => `${directory}/file${index}`);
mkdirSync(directory);
while (performance.now() < until) {
  for (const file of files) closeSync(openSync(file, 'wx'));
  for (const file of files) unlinkSync(file);
}
rmdirSync(directory);
