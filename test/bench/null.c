/*
 * The null filesystem: directories and files that exist in this server's memory alone, without any storage and any policy. It
 * answers the same requests as the union and lets the kernel remember the same, so its figures are what the requests
 * themselves cost, which no FUSE server over read and write can pass.
 *
 *   cc -O2 -o null null.c && null MOUNTPOINT      (root; ends when it is unmounted)
 *
 * A thread for each CPU that it may run on, with a descriptor of the connection of its own, at most four, where and how the
 * union's readers run (fuse/transport/seat.ts). One mutex guards the tables.
 *
 * File data go to one memfd that all files share, by passthrough: a request less, as for the union. Every file is SMALL bytes
 * long, whatever is written. Records are never used again: it is for minutes, not for days.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = (1 << 20) + 4096, REMEMBER_SECONDS = 3600, SMALL = 4096, NAME_ROOM = 44, MAX_THREADS = 4, NODES = 1 << 22, BUCKETS = 1 << 20 };

/* What came with version 7.40 of the protocol; headers of distributions may be older. */
#define PASSTHROUGH_FLAG2 (1u << 5)
#define PASSTHROUGH_OPEN (1u << 7)
struct backing_map {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)

/* The CPU of this thread, or -1: there is only one. */
static __thread int home = -1;

static __thread union {
  struct fuse_in_header header;
  char bytes[ROOM];
} request;

static __thread struct {
  struct fuse_out_header header;
  union {
    struct fuse_init_out init;
    struct fuse_entry_out entry;
    struct {
      struct fuse_entry_out entry;
      struct fuse_open_out open;
    } created;
    struct fuse_attr_out attributes;
    struct fuse_open_out open;
    struct fuse_statfs_out space;
    char bytes[ROOM];
  } body;
} reply;

/* By FUSE node id. 0 is none, 1 the root. */
static struct node {
  uint32_t parent, next, mode;
  char name[NAME_ROOM];
} *nodes;
static uint32_t *buckets, last = FUSE_ROOT_ID;
static int device, backing;
static pthread_mutex_t tables = PTHREAD_MUTEX_INITIALIZER;

static uint32_t *bucket(uint32_t parent, const char *name) {
  uint32_t hash = parent * 0x9e3779b1u;
  while (*name) hash = (hash ^ (unsigned char)*name++) * 0x01000193u;
  return &buckets[(hash ^ hash >> 15) % BUCKETS];
}

/* Where the node of this name is linked from; it points to 0 when there is none. */
static uint32_t *place(uint32_t parent, const char *name) {
  uint32_t *at = bucket(parent, name);
  while (*at && (nodes[*at].parent != parent || strcmp(nodes[*at].name, name))) at = &nodes[*at].next;
  return at;
}

static uint32_t take(uint32_t parent, const char *name) {
  uint32_t *at = place(parent, name), found = *at;
  if (found) *at = nodes[found].next, nodes[found].parent = 0;
  return found;
}

static void put(uint32_t id, uint32_t parent, const char *name) {
  uint32_t *first = bucket(parent, name);
  nodes[id].parent = parent;
  nodes[id].next = *first;
  snprintf(nodes[id].name, NAME_ROOM, "%s", name);
  *first = id;
}

static void describe(struct fuse_attr *attr, uint32_t id) {
  attr->ino = id;
  attr->mode = nodes[id].mode;
  attr->nlink = S_ISDIR(attr->mode) ? 2 : 1;
  attr->size = S_ISDIR(attr->mode) ? 0 : SMALL;
  attr->blksize = SMALL;
}

/* Node id 0 is a missing name that may be remembered. */
static void put_entry(struct fuse_entry_out *entry, uint32_t id) {
  memset(entry, 0, sizeof *entry);
  entry->nodeid = id;
  entry->entry_valid = entry->attr_valid = REMEMBER_SECONDS;
  if (id) describe(&entry->attr, id);
}

static int make(const char *name, uint32_t mode) {
  if (strlen(name) >= NAME_ROOM) return -ENAMETOOLONG;
  if (last + 1 >= NODES) return -ENOSPC;
  nodes[++last].mode = mode;
  put(last, (uint32_t)request.header.nodeid, name);
  put_entry(&reply.body.entry, last);
  return sizeof reply.body.entry;
}

static void put_open(struct fuse_open_out *open) {
  memset(open, 0, sizeof *open);
  open->open_flags = PASSTHROUGH_OPEN | FOPEN_NOFLUSH;
  open->padding = (uint32_t)backing; /* backing_id */
}

/* Of the names in a directory those from a record on; the offset of an entry is its record. */
static int list(const struct fuse_read_in *in, int plus) {
  uint32_t size = 0, head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
  for (uint64_t id = in->offset ? in->offset + 1 : request.header.nodeid; id <= last; id++) {
    if (nodes[id].parent != request.header.nodeid) continue;
    uint32_t length = (uint32_t)strlen(nodes[id].name), bytes = FUSE_DIRENT_ALIGN(head + length);
    if (size + bytes > in->size) break;
    char *at = reply.body.bytes + size;
    memset(at, 0, bytes);
    if (plus) put_entry((struct fuse_entry_out *)at, (uint32_t)id);
    struct fuse_dirent *entry = (struct fuse_dirent *)(at + head - FUSE_NAME_OFFSET);
    entry->ino = entry->off = id;
    entry->namelen = length;
    entry->type = nodes[id].mode >> 12;
    memcpy(entry->name, nodes[id].name, length);
    size += bytes;
  }
  return (int)size;
}

static int start(void) {
  memset(&reply.body.init, 0, sizeof reply.body.init);
  reply.body.init.major = FUSE_KERNEL_VERSION;
  reply.body.init.minor = FUSE_KERNEL_MINOR_VERSION;
  reply.body.init.max_write = 1 << 20;
  reply.body.init.flags = FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT | FUSE_ATOMIC_O_TRUNC;
  reply.body.init.flags2 = PASSTHROUGH_FLAG2;
  reply.body.init.unused[0] = 1; /* max_stack_depth */
  return sizeof reply.body.init;
}

/* Fills the reply and returns the size of its body, or a negative errno. */
static int answer(void) {
  char *body = request.bytes + sizeof request.header;
  uint32_t id = (uint32_t)request.header.nodeid;
  switch (request.header.opcode) {
    case FUSE_INIT: return start();
    case FUSE_LOOKUP: put_entry(&reply.body.entry, *place(id, body)); return sizeof reply.body.entry;
    case FUSE_GETATTR:
    case FUSE_SETATTR:
      memset(&reply.body.attributes, 0, sizeof reply.body.attributes);
      reply.body.attributes.attr_valid = REMEMBER_SECONDS;
      describe(&reply.body.attributes.attr, id);
      return sizeof reply.body.attributes;
    case FUSE_MKDIR: return make(body + sizeof(struct fuse_mkdir_in), S_IFDIR | 0755);
    case FUSE_CREATE: {
      int made = make(body + sizeof(struct fuse_create_in), S_IFREG | 0644);
      put_open(&reply.body.created.open);
      return made < 0 ? made : (int)sizeof reply.body.created;
    }
    case FUSE_OPEN: put_open(&reply.body.open); return sizeof reply.body.open;
    case FUSE_UNLINK:
    case FUSE_RMDIR: return take(id, body) ? 0 : -ENOENT;
    case FUSE_RENAME: {
      uint32_t into = (uint32_t)((struct fuse_rename_in *)body)->newdir, moved;
      char *from = body + sizeof(struct fuse_rename_in), *to = from + strlen(from) + 1;
      if (strlen(to) >= NAME_ROOM) return -ENAMETOOLONG;
      if (!(moved = take(id, from))) return -ENOENT;
      take(into, to);
      put(moved, into, to);
      return 0;
    }
    case FUSE_OPENDIR:
      memset(&reply.body.open, 0, sizeof reply.body.open);
      reply.body.open.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
      return sizeof reply.body.open;
    case FUSE_READDIR: return list((struct fuse_read_in *)body, 0);
    case FUSE_READDIRPLUS: return list((struct fuse_read_in *)body, 1);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: return 0;
    case FUSE_GETXATTR: return -ENODATA;
    case FUSE_STATFS: memset(&reply.body.space, 0, sizeof reply.body.space); return sizeof reply.body.space;
    default: return -ENOSYS;
  }
}

/* Once the kernel has heard of passthrough: one backing file for all. */
static void make_backing(void) {
  int file = memfd_create("null", MFD_CLOEXEC);
  char zeros[SMALL] = {0};
  if (file < 0 || write(file, zeros, SMALL) != SMALL) perror("memfd");
  struct backing_map map = {.fd = file};
  backing = ioctl(device, BACKING_OPEN, &map);
  if (backing <= 0) perror("passthrough");
}

static void pin(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
}

/* The CPU that a thread ran on last, or -1. */
static int cpu_of(uint32_t thread) {
  enum { BEFORE_CPU = 36 }; /* fields between the name and it; proc(5) */
  char text[1024];
  snprintf(text, sizeof text, "/proc/%u/stat", thread);
  int file = open(text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  text[length < 0 ? 0 : length] = 0;
  char *at = strrchr(text, ')');
  for (int field = 0; at && field <= BEFORE_CPU; field++) at = strchr(at + 1, ' ');
  return at ? atoi(at) : -1;
}

static void become(int policy) {
  struct sched_param none = {0};
  sched_setscheduler(0, policy, &none);
}

static void settle(int cpu) {
  home = cpu;
  pin(cpu);
  become(SCHED_BATCH);
}

/* Beside a caller who is alone, as SCHED_IDLE; of others at home, as SCHED_BATCH. On one CPU there is nothing to choose. */
static void sit(uint32_t caller) {
  enum { ALONE = 256, LOOK_EVERY = 16 };
  static __thread uint32_t last;
  static __thread int requests, away;
  if (home < 0 || caller == 0) return;
  if (caller != last) {
    last = caller;
    requests = 0;
    if (away) settle(home);
    away = 0;
  } else if (++requests % (away ? LOOK_EVERY : ALONE) == 0) {
    int beside = cpu_of(caller);
    if (beside < 0) return;
    pin(beside);
    if (!away) become(SCHED_IDLE);
    away = 1;
  }
}

static int serve(int own) {
  for (;;) {
    if (read(own, &request, sizeof request) < 0) {
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT) continue;
      return errno == ENODEV ? 0 : 1; /* ENODEV: unmounted */
    }
    sit(request.header.pid);
    if (request.header.opcode == FUSE_FORGET || request.header.opcode == FUSE_BATCH_FORGET) continue;
    pthread_mutex_lock(&tables);
    int size = answer();
    pthread_mutex_unlock(&tables);
    reply.header.unique = request.header.unique;
    reply.header.error = size < 0 ? size : 0;
    reply.header.len = (uint32_t)(sizeof reply.header + (size < 0 ? 0 : (size_t)size));
    if (write(own, &reply, reply.header.len) < 0 && errno != ENOENT) perror("write");
    if (request.header.opcode == FUSE_INIT) make_backing();
  }
}

static void *help(void *cpu) {
  int own = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  uint32_t of = (uint32_t)device;
  if (own < 0 || ioctl(own, FUSE_DEV_IOC_CLONE, &of) != 0) return perror("clone"), NULL;
  settle((int)(intptr_t)cpu);
  serve(own);
  return NULL;
}

/* Answers when the filesystem is unmounted. */
static int serve_on_every_cpu(void) {
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  int first = -1, threads = 1;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    pthread_t thread;
    if (!CPU_ISSET(cpu, &all)) continue;
    if (first < 0) first = cpu;
    else if (threads++ < MAX_THREADS) pthread_create(&thread, NULL, help, (void *)(intptr_t)cpu);
  }
  if (threads > 1) settle(first);
  return serve(device);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: null MOUNTPOINT\n");
    return 2;
  }
  nodes = calloc(NODES, sizeof *nodes);
  buckets = calloc(BUCKETS, sizeof *buckets);
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (!nodes || !buckets || device < 0) {
    perror("null");
    return 1;
  }
  nodes[FUSE_ROOT_ID].mode = S_IFDIR | 0755;
  char mount_options[128];
  snprintf(mount_options, sizeof mount_options,
           "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device);
  if (mount("null", argv[1], "fuse.null", 0, mount_options) != 0) {
    perror(argv[1]);
    return 1;
  }
  return serve_on_every_cpu();
}
