/*
 * The null filesystem: every name is missing, and the kernel is told to remember that. The floor for the cost of a FUSE request over read
 * and write, which no server can pass.
 *
 *   cc -O2 -o null null.c && null MOUNTPOINT      (root; ends when it is unmounted)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = (1 << 20) + 4096, REMEMBER_SECONDS = 3600 };

static union {
  struct fuse_in_header header;
  char bytes[ROOM];
} request;

static struct {
  struct fuse_out_header header;
  union {
    struct fuse_init_out init;
    struct fuse_entry_out entry;
    struct fuse_attr_out attributes;
    struct fuse_statfs_out space;
  } body;
} reply;

/* Fills the reply and returns the size of its body, or a negative errno. */
static int answer(void) {
  memset(&reply.body, 0, sizeof reply.body);
  switch (request.header.opcode) {
    case FUSE_INIT:
      reply.body.init.major = FUSE_KERNEL_VERSION;
      reply.body.init.minor = FUSE_KERNEL_MINOR_VERSION;
      reply.body.init.max_write = 1 << 20;
      return sizeof reply.body.init;
    case FUSE_LOOKUP: /* nodeid 0 is a missing name that may be remembered */
      reply.body.entry.entry_valid = REMEMBER_SECONDS;
      return sizeof reply.body.entry;
    case FUSE_GETATTR:
      reply.body.attributes.attr_valid = REMEMBER_SECONDS;
      reply.body.attributes.attr.ino = FUSE_ROOT_ID;
      reply.body.attributes.attr.mode = S_IFDIR | 0755;
      reply.body.attributes.attr.nlink = 2;
      return sizeof reply.body.attributes;
    case FUSE_STATFS:
      return sizeof reply.body.space;
    default:
      return -ENOSYS;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: null MOUNTPOINT\n");
    return 2;
  }
  int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) {
    perror("/dev/fuse");
    return 1;
  }
  char mount_options[128];
  snprintf(mount_options, sizeof mount_options,
           "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device);
  if (mount("null", argv[1], "fuse.null", 0, mount_options) != 0) {
    perror(argv[1]);
    return 1;
  }
  for (;;) {
    if (read(device, &request, sizeof request) < 0) {
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT) continue;
      return errno == ENODEV ? 0 : 1; /* ENODEV: unmounted */
    }
    if (request.header.opcode == FUSE_FORGET || request.header.opcode == FUSE_BATCH_FORGET) continue;
    int size = answer();
    reply.header.unique = request.header.unique;
    reply.header.error = size < 0 ? size : 0;
    reply.header.len = (uint32_t)(sizeof reply.header + (size < 0 ? 0 : (size_t)size));
    if (write(device, &reply, reply.header.len) < 0 && errno != ENOENT) perror("write");
  }
}
