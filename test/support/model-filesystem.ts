/**
 * What a filesystem must do, in memory: the rules of Linux for a few names, without permissions. Operations answer a value, or
 * throw an errno's name. The reference for test/property/filesystem.test.ts.
 */
export type Node = FileNode | DirectoryNode | LinkNode;

interface FileNode {
  readonly kind: 'file';
  bytes: Buffer;
  mode: number;
  links: number;
}

interface DirectoryNode {
  readonly kind: 'directory';
  readonly children: Map<string, Node>;
  mode: number;
}

interface LinkNode {
  readonly kind: 'link';
  readonly target: string;
  links: number;
}

/** What can be asked of the model and of a real client alike. Paths are relative, handles numbers of the asker's choice. */
export type Operation =
  | { readonly op: 'mkdir' | 'rmdir' | 'unlink' | 'readdir' | 'lstat' | 'read'; readonly path: string }
  | { readonly op: 'create'; readonly path: string; readonly text: string }
  | { readonly op: 'rename' | 'exchange' | 'noreplace' | 'link'; readonly path: string; readonly to: string }
  | { readonly op: 'symlink'; readonly path: string }
  | { readonly op: 'truncate'; readonly path: string; readonly size: number }
  | { readonly op: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly op: 'open'; readonly path: string; readonly handle: number }
  | { readonly op: 'write'; readonly handle: number; readonly offset: number; readonly text: string }
  | { readonly op: 'fread' | 'fstat' | 'close'; readonly handle: number }
  | { readonly op: 'ftruncate'; readonly handle: number; readonly size: number };

export const LINK_TARGET = 'nowhere';

interface Place {
  readonly parent: DirectoryNode;
  readonly name: string;
  readonly node: Node | undefined;
}

export class ModelFilesystem {
  readonly root: DirectoryNode = { kind: 'directory', children: new Map(), mode: 0o755 };
  readonly #handles = new Map<number, FileNode>();

  apply(operation: Operation): unknown {
    switch (operation.op) {
      case 'mkdir':
        return this.#add(operation.path, { kind: 'directory', children: new Map(), mode: 0o755 });
      case 'create':
        return this.#add(operation.path, { kind: 'file', bytes: Buffer.from(operation.text), mode: 0o644, links: 1 });
      case 'symlink':
        return this.#add(operation.path, { kind: 'link', target: LINK_TARGET, links: 1 });
      case 'rmdir':
        return this.#rmdir(operation.path);
      case 'unlink':
        return this.#unlink(operation.path);
      case 'readdir':
        return [...this.#directory(operation.path).children.keys()].sort();
      case 'lstat':
        return describeNode(this.#find(operation.path));
      case 'read':
        return this.#file(operation.path).bytes.toString();
      case 'rename':
      case 'noreplace':
      case 'exchange':
        return this.#rename(operation.path, operation.to, operation.op);
      case 'link':
        return this.#link(operation.path, operation.to);
      case 'truncate':
        return resize(this.#file(operation.path), operation.size);
      case 'chmod':
        return this.#chmod(operation.path, operation.mode);
      default:
        return this.#onHandle(operation);
    }
  }

  #onHandle(operation: Extract<Operation, { handle: number }>): unknown {
    if (operation.op === 'open') {
      if (this.#handles.has(operation.handle)) fail('EBADF');
      this.#handles.set(operation.handle, this.#file(operation.path));
      return undefined;
    }
    const file = this.#handles.get(operation.handle) ?? fail('EBADF');
    if (operation.op === 'write') return write(file, operation.offset, Buffer.from(operation.text));
    if (operation.op === 'fread') return file.bytes.toString();
    if (operation.op === 'fstat') return describeNode(file);
    if (operation.op === 'ftruncate') return resize(file, operation.size);
    this.#handles.delete(operation.handle);
    return undefined;
  }

  #place(path: string): Place {
    const names = path.split('/');
    const name = names.pop()!;
    let parent: Node = this.root;
    for (const step of names) parent = enter(parent).children.get(step) ?? fail('ENOENT');
    const directory = enter(parent);
    return { parent: directory, name, node: directory.children.get(name) };
  }

  #find(path: string): Node {
    return this.#place(path).node ?? fail('ENOENT');
  }

  #directory(path: string): DirectoryNode {
    return enter(this.#find(path));
  }

  #file(path: string): FileNode {
    const node = this.#find(path);
    if (node.kind === 'link') fail('ENOENT'); // leads nowhere
    return node.kind === 'file' ? node : fail('EISDIR');
  }

  #add(path: string, node: Node): void {
    const { parent, name, node: there } = this.#place(path);
    if (there) fail('EEXIST');
    parent.children.set(name, node);
  }

  #rmdir(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (!node) fail('ENOENT');
    if (node.kind !== 'directory') fail('ENOTDIR');
    if (node.children.size > 0) fail('ENOTEMPTY');
    parent.children.delete(name);
  }

  #unlink(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (!node) fail('ENOENT');
    if (node.kind === 'directory') fail('EISDIR');
    node.links--;
    parent.children.delete(name);
  }

  #link(path: string, to: string): void {
    const node = this.#find(path);
    const { parent, name, node: there } = this.#place(to);
    if (there) fail('EEXIST');
    if (node.kind === 'directory') fail('EPERM');
    node.links++;
    parent.children.set(name, node);
  }

  #chmod(path: string, mode: number): void {
    const node = this.#find(path);
    if (node.kind === 'link') fail('ENOENT');
    else node.mode = mode;
  }

  #rename(path: string, to: string, how: 'rename' | 'noreplace' | 'exchange'): void {
    const source = this.#place(path);
    const target = this.#place(to);
    if (!source.node) fail('ENOENT');
    if (how === 'noreplace' && target.node) fail('EEXIST');
    if (how === 'exchange' && !target.node) fail('ENOENT');
    if (to.startsWith(`${path}/`)) fail('EINVAL');
    if (path.startsWith(`${to}/`)) fail(how === 'exchange' ? 'EINVAL' : 'ENOTEMPTY');
    if (source.node === target.node) return;
    if (how === 'exchange') source.parent.children.set(source.name, target.node!);
    else {
      if (target.node) replace(source.node, target.node);
      source.parent.children.delete(source.name);
    }
    target.parent.children.set(target.name, source.node);
  }
}

function replace(source: Node, target: Node): void {
  if (source.kind === 'directory') {
    if (target.kind !== 'directory') fail('ENOTDIR');
    if (target.children.size > 0) fail('ENOTEMPTY');
  } else if (target.kind === 'directory') fail('EISDIR');
  else target.links--;
}

function enter(node: Node): DirectoryNode {
  if (node.kind === 'link') fail('ENOENT');
  return node.kind === 'directory' ? node : fail('ENOTDIR');
}

function write(file: FileNode, offset: number, bytes: Buffer): void {
  if (bytes.length === 0) return; // and no longer, whatever the offset
  if (file.bytes.length < offset + bytes.length) resize(file, offset + bytes.length);
  bytes.copy(file.bytes, offset);
}

function resize(file: FileNode, size: number): void {
  const bytes = Buffer.alloc(size);
  file.bytes.copy(bytes);
  file.bytes = bytes;
}

/** What stat tells of a node, as text. */
function describeNode(node: Node): string {
  switch (node.kind) {
    case 'file':
      return `file ${node.mode.toString(8)} ${node.links} ${node.bytes.length}`;
    case 'link':
      return `link 777 ${node.links} ${node.target.length}`;
    case 'directory': {
      const subdirectories = [...node.children.values()].filter(({ kind }) => kind === 'directory').length;
      return `directory ${node.mode.toString(8)} ${2 + subdirectories}`;
    }
  }
}

function fail(code: string): never {
  throw code;
}
