/**
 * What a filesystem must do, in memory: the rules of Linux for a few names, as root. Operations answer a value, or throw an errno's
 * name. The reference for test/property/filesystem.test.ts.
 */
import { OpenHandles } from './handles.ts';
import { Listings } from './listings.ts';
import {
  changeMode,
  changeOwner,
  type DirectoryNode,
  describeNode,
  type FileNode,
  inherit,
  type Node,
  resize,
  setAcl,
} from './nodes.ts';
import { FILL, LINK_TARGET, type Making, type OnHandle, type Operation } from './operations.ts';

interface Place {
  readonly parent: DirectoryNode;
  readonly name: string;
  readonly node: Node | undefined;
}

/** What is made, and all it is asked for with. */
const MODES = { file: 0o666, directory: 0o777, fifo: 0o666, link: 0o777 } as const;

export class ModelFilesystem {
  readonly root: DirectoryNode;
  readonly listings = new Listings();
  readonly #handles = new OpenHandles();
  #made = 0;

  constructor() {
    const nothing = { mtime: undefined, acl: undefined, defaultAcl: undefined, removed: false, xattrs: new Map() };
    this.root = { ...nothing, kind: 'directory', id: 0, mode: 0o755, uid: 0, gid: 0, children: new Map() };
  }

  /** Puts a file or directory there that was there before anybody asked for anything. */
  plant(path: string, text: string | undefined): void {
    const { parent, name } = this.#place(path);
    const node = text === undefined ? this.#make(parent, 'directory') : this.#make(parent, 'file');
    if (node.kind === 'file') node.bytes = Buffer.from(text!);
    parent.children.set(name, node);
  }

  apply(operation: Operation): unknown {
    switch (operation.op) {
      case 'mkdir':
      case 'create':
      case 'symlink':
      case 'mkfifo':
      case 'fill':
        return this.#create(operation);
      case 'rmdir':
        return this.#rmdir(operation.path);
      case 'unlink':
        return this.#unlink(operation.path);
      case 'rename':
      case 'noreplace':
      case 'exchange':
        return this.#rename(operation.path, operation.to, operation.op);
      case 'link':
        return this.#link(operation.path, operation.to);
      case 'open':
        return this.#handles.open(operation.handle, operation.how, () => this.#opened(operation.path, operation.how));
      case 'tmpfile':
        return this.#handles.open(operation.handle, 'r+', () => this.#unnamed(operation.path));
      case 'name':
        return this.#name(operation.handle, operation.to);
      case 'opendir':
        return this.listings.open(operation.listing, () => this.#directory(operation.path));
      case 'list':
        return this.listings.checkReadable(operation.listing);
      case 'rewind':
        return this.listings.rewind(operation.listing);
      case 'closedir':
        return this.listings.close(operation.listing);
      default:
        return 'handle' in operation ? this.#handles.apply(operation) : this.#attributes(operation);
    }
  }

  #attributes(operation: Exclude<Operation, OnHandle>): unknown {
    switch (operation.op) {
      case 'readdir':
        return [...this.#directory(operation.path).children].map(([name, { id }]) => ({ name, id: String(id) }));
      case 'lstat':
        return describeNode(this.#find(operation.path));
      case 'read':
        return this.#file(operation.path).bytes.toString();
      case 'readlink': {
        const node = this.#find(operation.path);
        return node.kind === 'link' ? node.target : fail('EINVAL');
      }
      case 'truncate':
        return resize(this.#file(operation.path), operation.size);
      case 'chmod': {
        const node = this.#find(operation.path);
        return node.kind === 'link' ? fail('ENOENT') : changeMode(node, operation.mode);
      }
      case 'chown':
        return changeOwner(this.#find(operation.path), operation.uid, operation.gid);
      case 'utimes':
        this.#find(operation.path).mtime = operation.mtime;
        return undefined;
      case 'setacl': {
        const node = this.#find(operation.path);
        if (operation.which === 'access') return setAcl(node, operation.acl);
        if (node.kind === 'directory') node.defaultAcl = operation.acl;
        return undefined;
      }
      case 'getacl': {
        const node = this.#find(operation.path);
        return [node.acl ?? null, (node.kind === 'directory' ? node.defaultAcl : undefined) ?? null];
      }
      default:
        return this.#xattr(operation);
    }
  }

  #xattr(operation: Exclude<Operation, OnHandle>): unknown {
    if (!('path' in operation)) throw new Error(`unknown operation ${operation.op}`);
    const node = this.#find(operation.path);
    const { xattrs } = node;
    const isPlain = node.kind === 'file' || node.kind === 'directory';
    switch (operation.op) {
      case 'listxattr':
        return [...xattrs.keys()].sort();
      case 'getxattr':
        return xattrs.get(operation.name) ?? fail('ENODATA');
      case 'removexattr':
        if (!isPlain) fail('EPERM');
        if (!xattrs.delete(operation.name)) fail('ENODATA');
        return undefined;
      case 'setxattr':
        if (!isPlain) fail('EPERM');
        if (operation.flags === 1 && xattrs.has(operation.name)) fail('EEXIST');
        if (operation.flags === 2 && !xattrs.has(operation.name)) fail('ENODATA');
        xattrs.set(operation.name, operation.text);
        return undefined;
      default:
        throw new Error(`unknown operation ${operation.op}`);
    }
  }

  #make(parent: DirectoryNode, kind: Node['kind']): Node {
    const attributes = inherit(parent, ++this.#made, kind, MODES[kind]);
    switch (kind) {
      case 'file':
        return { ...attributes, kind, bytes: Buffer.alloc(0), links: 1, unnamed: false };
      case 'directory':
        return { ...attributes, kind, children: new Map(), defaultAcl: parent.defaultAcl, removed: false };
      case 'link':
        return { ...attributes, kind, target: LINK_TARGET, links: 1 };
      case 'fifo':
        return { ...attributes, kind, links: 1 };
    }
  }

  #create(operation: Making): void {
    const { parent, name, node } = this.#place(operation.path);
    if (node) fail('EEXIST');
    const kinds = { mkdir: 'directory', create: 'file', symlink: 'link', mkfifo: 'fifo', fill: 'directory' } as const;
    const made = this.#make(parent, kinds[operation.op]);
    if (operation.op === 'create' && made.kind === 'file') made.bytes = Buffer.from(operation.text);
    this.#set(parent, name, made);
    if (operation.op === 'fill' && made.kind === 'directory')
      for (const inner of FILL) this.#set(made, inner, this.#make(made, 'file'));
  }

  #set(parent: DirectoryNode, name: string, node: Node | undefined): void {
    if (node) parent.children.set(name, node);
    else parent.children.delete(name);
    parent.mtime = undefined;
    this.listings.touch(parent, name);
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
    return enter(path === '' ? this.root : this.#find(path));
  }

  #file(path: string): FileNode {
    const node = this.#find(path);
    if (node.kind === 'link') fail('ENOENT'); // leads nowhere
    return node.kind === 'file' ? node : fail('EISDIR');
  }

  #opened(path: string, how: string): FileNode {
    const { parent, name, node } = this.#place(path);
    if (how === 'r' || how === 'r+') return this.#file(path);
    if (node && how === 'wx+') fail('EEXIST');
    if (!node) {
      const made = this.#make(parent, 'file');
      this.#set(parent, name, made);
      return made as FileNode;
    }
    const file = this.#file(path);
    if (how === 'w') resize(file, 0);
    return file;
  }

  #unnamed(path: string): FileNode {
    const node = this.#make(this.#directory(path), 'file') as FileNode;
    node.links = 0;
    node.unnamed = true;
    return node;
  }

  #name(handle: number, to: string): void {
    const file = this.#handles.file(handle);
    const { parent, name, node } = this.#place(to);
    if (node) fail('EEXIST');
    if (file.links === 0 && !file.unnamed) fail('ENOENT');
    file.unnamed = false;
    file.links++;
    this.#set(parent, name, file);
  }

  #rmdir(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (!node) fail('ENOENT');
    if (node.kind !== 'directory') fail('ENOTDIR');
    if (node.children.size > 0) fail('ENOTEMPTY');
    node.removed = true;
    this.#set(parent, name, undefined);
  }

  #unlink(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (!node) fail('ENOENT');
    if (node.kind === 'directory') fail('EISDIR');
    node.links--;
    this.#set(parent, name, undefined);
  }

  #link(path: string, to: string): void {
    const node = this.#find(path);
    const { parent, name, node: there } = this.#place(to);
    if (there) fail('EEXIST');
    if (node.kind === 'directory') fail('EPERM');
    node.links++;
    this.#set(parent, name, node);
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
    if (how === 'exchange') this.#set(source.parent, source.name, target.node);
    else {
      if (target.node) replace(source.node, target.node);
      this.#set(source.parent, source.name, undefined);
    }
    this.#set(target.parent, target.name, source.node);
  }
}

function replace(source: Node, target: Node): void {
  if (source.kind === 'directory') {
    if (target.kind !== 'directory') fail('ENOTDIR');
    if (target.children.size > 0) fail('ENOTEMPTY');
    target.removed = true;
  } else if (target.kind === 'directory') fail('EISDIR');
  else target.links--;
}

function enter(node: Node): DirectoryNode {
  if (node.kind === 'link') fail('ENOENT');
  return node.kind === 'directory' ? node : fail('ENOTDIR');
}

function fail(code: string): never {
  throw code;
}
