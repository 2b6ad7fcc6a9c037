/*
 * What reading and writing costs through one filesystem beside another in which the same file is: both in turn, so that they meet the
 * same memory, blocks and disturbances. As JSON on stdout: of each kind of work the samples of either, in operations or MiB a second.
 *
 *   cc -O2 -o beside beside.c
 *   beside [-m MEBIBYTES] [-r RANDOM] [-t TURNS] UPPER LOWER
 *
 * UPPER and LOWER are paths of the same file. Only UPPER truncates it, as LOWER knows of nobody above it. A first turn is not counted:
 * it takes memory that the others take again (a virtual machine may have given it back to its host), and code is compiled.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 4096, LARGE = 1 << 20, READS_PER_WRITE = 5, MAX_TURNS = 1000 };
enum { UPPER, LOWER, SIDES };

static struct {
  long mebibytes, random, turns;
} options = {.mebibytes = 512, .random = 20000, .turns = 15};
static char small[SMALL], large[LARGE];
static int files[SIDES];

static void die(const char *what) {
  fprintf(stderr, "beside: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Each does its work on a file and answers how many operations that were. The seed is the same for both sides of a turn. */

static long sequential_write(int file, unsigned seed) {
  (void)seed;
  for (long i = 0; i < options.mebibytes; i++)
    if (pwrite(file, large, LARGE, i * LARGE) != LARGE) die("sequential write");
  return options.mebibytes;
}

static long sequential_read(int file, unsigned seed) {
  (void)seed;
  for (long i = 0; i < options.mebibytes; i++)
    if (pread(file, large, LARGE, i * LARGE) != LARGE) die("sequential read");
  return options.mebibytes;
}

static off_t random_offset(unsigned *seed) { return (off_t)(rand_r(seed) % (options.mebibytes * (LARGE / SMALL))) * SMALL; }

static long random_write(int file, unsigned seed) {
  for (long i = 0; i < options.random; i++)
    if (pwrite(file, small, SMALL, random_offset(&seed)) != SMALL) die("random write");
  return options.random;
}

static long random_read(int file, unsigned seed) {
  long reads = options.random * READS_PER_WRITE;
  for (long i = 0; i < reads; i++)
    if (pread(file, small, SMALL, random_offset(&seed)) != SMALL) die("random read");
  return reads;
}

/* In this order: later ones read and write what the first has written. */
static const struct work {
  const char *name;
  long (*run)(int file, unsigned seed);
  int truncates;
} works[] = {
    {"sequential_write", sequential_write, 1},
    {"sequential_read", sequential_read, 0},
    {"random_write", random_write, 0},
    {"random_read", random_read, 0},
};
enum { WORKS = sizeof works / sizeof *works };

static double once(const struct work *work, int file, unsigned seed) {
  struct timespec begin, end;
  if (work->truncates && ftruncate(files[UPPER], 0) != 0) die("truncate");
  clock_gettime(CLOCK_MONOTONIC, &begin);
  long count = work->run(file, seed);
  clock_gettime(CLOCK_MONOTONIC, &end);
  return (double)count / ((double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9);
}

static void report(const char *side, const double *samples) {
  printf("\"%s\":[", side);
  for (long turn = 0; turn < options.turns; turn++) printf("%s%.1f", turn == 0 ? "" : ",", samples[turn]);
  printf("]");
}

int main(int argc, char **argv) {
  static double samples[SIDES][MAX_TURNS];
  for (int flag; (flag = getopt(argc, argv, "m:r:t:")) != -1;) switch (flag) {
      case 'm': options.mebibytes = atol(optarg); break;
      case 'r': options.random = atol(optarg); break;
      case 't': options.turns = atol(optarg); break;
      default: return 2;
    }
  if (optind != argc - 2 || options.turns < 1 || options.turns > MAX_TURNS) {
    fprintf(stderr, "usage: beside [-m MEBIBYTES] [-r RANDOM] [-t TURNS] UPPER LOWER\n");
    return 2;
  }
  for (int side = 0; side < SIDES; side++)
    if ((files[side] = open(argv[optind + side], O_RDWR)) < 0) die(argv[optind + side]);
  for (const struct work *work = works; work < works + WORKS; work++) {
    sync(); /* nobody pays for what was written before */
    for (long turn = -1; turn < options.turns; turn++)
      for (int place = 0; place < SIDES; place++) {
        int side = (int)(turn + 1 + place) % SIDES; /* once the one goes first and once the other */
        double speed = once(work, files[side], (unsigned)turn + 2);
        if (turn >= 0) samples[side][turn] = speed;
      }
    printf("%s\"%s\":{", work == works ? "{" : ",", work->name);
    report("upper", samples[UPPER]);
    printf(",");
    report("lower", samples[LOWER]);
    printf("}");
  }
  printf("}\n");
  return 0;
}
