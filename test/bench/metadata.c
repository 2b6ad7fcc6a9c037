/*
 * What a filesystem's metadata and file data cost: phases over many small files and one large one, as JSON on stdout.
 *
 *   cc -O2 -o metadata metadata.c
 *   metadata [-n FILES] [-c CLIENTS] [-m MEBIBYTES] [-r RANDOM] [-d DEPTH] [-p PHASE,...] DIRECTORY
 *
 * Each client is a process with a directory of its own, DEPTH folders below DIRECTORY. A phase begins when all clients are
 * ready and ends when the last is done; its figure is operations (or entries, or MiB) a second, of all clients together.
 * "cold" phases begin with dentries and inodes dropped from the kernel, which needs root. DIRECTORY is left as it was.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * A write takes some ten times as long as a read. So many listings that what a server in JavaScript does for each is compiled by
 * when the first round counts.
 */
enum { SMALL = 4096, LARGE = 1 << 20, LISTINGS = 400, READS_PER_WRITE = 5, PATH_ROOM = 1024, MAX_DEPTH = 16 };

static struct {
  const char *directory, *phases;
  long files, clients, mebibytes, random, depth;
} options = {.files = 10000, .clients = 1, .mebibytes = 512, .random = 20000, .depth = 3};

/* Of one client. */
static char base[PATH_ROOM - 64];
static char small[SMALL], large[LARGE];

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "metadata: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, ": %s\n", strerror(errno));
  va_end(arguments);
  exit(1);
}

static const char *name(char *path, const char *prefix, long i) {
  snprintf(path, PATH_ROOM, "%s/%s%06ld", base, prefix, i);
  return path;
}

/* Every phase returns how many operations it did. */

static long create(void) {
  char path[PATH_ROOM];
  for (long i = 0; i < options.files; i++) {
    int fd = open(name(path, "file", i), O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0 || write(fd, small, SMALL) != SMALL || close(fd) != 0) die("create %s", path);
  }
  return options.files;
}

static long stat_all(void) {
  char path[PATH_ROOM];
  struct stat attributes;
  for (long i = 0; i < options.files; i++)
    if (stat(name(path, "file", i), &attributes) != 0 || attributes.st_size != SMALL) die("stat %s", path);
  return options.files;
}

static long missing(void) {
  char path[PATH_ROOM];
  struct stat attributes;
  for (long i = 0; i < options.files; i++)
    if (stat(name(path, "none", i), &attributes) == 0 || errno != ENOENT) die("stat of the missing %s", path);
  return options.files;
}

static long open_read(void) {
  char path[PATH_ROOM];
  for (long i = 0; i < options.files; i++) {
    int fd = open(name(path, "file", i), O_RDONLY);
    if (fd < 0 || read(fd, small, SMALL) != SMALL || close(fd) != 0) die("open and read %s", path);
  }
  return options.files;
}

static long list(int with_attributes) {
  struct stat attributes;
  struct dirent *entry;
  long count = 0;
  DIR *stream = opendir(base);
  if (!stream) die("opendir %s", base);
  while ((entry = readdir(stream))) {
    if (entry->d_name[0] == '.') continue;
    if (with_attributes && fstatat(dirfd(stream), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0)
      die("stat %s/%s", base, entry->d_name);
    count++;
  }
  closedir(stream);
  if (count != options.files) die("listing %s: %ld entries instead of %ld", base, count, options.files);
  return count;
}

static long list_attributes(void) { return list(1); }

static long list_names(void) {
  long count = 0;
  for (int i = 0; i < LISTINGS; i++) count += list(0);
  return count;
}

static long rename_all(void) {
  char from[PATH_ROOM], to[PATH_ROOM];
  for (long i = 0; i < options.files; i++)
    if (rename(name(from, "file", i), name(to, "moved", i)) != 0) die("rename %s", from);
  return options.files;
}

static long unlink_all(void) {
  char path[PATH_ROOM];
  for (long i = 0; i < options.files; i++)
    if (unlink(name(path, "moved", i)) != 0) die("unlink %s", path);
  return options.files;
}

static const char *large_name(char *path) {
  snprintf(path, PATH_ROOM, "%s/large", base);
  return path;
}

static int open_large(int flags) {
  char path[PATH_ROOM];
  int fd = open(large_name(path), flags, 0644);
  if (fd < 0) die("open %s", path);
  return fd;
}

static int write_large(long mebibytes) {
  int fd = open_large(O_CREAT | O_WRONLY);
  for (long i = 0; i < mebibytes; i++)
    if (write(fd, large, LARGE) != LARGE) die("sequential write");
  return fd;
}

static long sequential_write(void) {
  close(write_large(options.mebibytes));
  return options.mebibytes;
}

static long sequential_read(void) {
  int fd = open_large(O_RDONLY);
  for (long i = 0; i < options.mebibytes; i++)
    if (read(fd, large, LARGE) != LARGE) die("sequential read");
  close(fd);
  return options.mebibytes;
}

static off_t random_offset(unsigned *seed) { return (off_t)(rand_r(seed) % (options.mebibytes * (LARGE / SMALL))) * SMALL; }

static long random_write(void) {
  unsigned seed = 1;
  int fd = open_large(O_WRONLY);
  for (long i = 0; i < options.random; i++)
    if (pwrite(fd, small, SMALL, random_offset(&seed)) != SMALL) die("random write");
  close(fd);
  return options.random;
}

static long random_read(void) {
  unsigned seed = 2;
  long reads = options.random * READS_PER_WRITE;
  int fd = open_large(O_RDONLY);
  for (long i = 0; i < reads; i++)
    if (pread(fd, small, SMALL, random_offset(&seed)) != SMALL) die("random read");
  close(fd);
  return reads;
}

/*
 * What happens before a phase: nothing; all that is dirty is written, so that nobody pays for another's; caches dropped too; or
 * written, and the memory that it will take has just been in use.
 */
enum before { AT_ONCE, SETTLED, COLD, WITH_MEMORY };

/* In this order: later phases use the files of earlier ones. */
static const struct phase {
  const char *name;
  long (*run)(void);
  enum before before;
} phases[] = {
    {"create", create, SETTLED},
    {"stat_cold", stat_all, COLD},
    {"stat_warm", stat_all, AT_ONCE},
    {"missing_cold", missing, AT_ONCE},
    {"missing_warm", missing, AT_ONCE},
    {"open_read", open_read, AT_ONCE},
    {"ls_cold", list_attributes, COLD},
    {"readdir", list_names, AT_ONCE},
    {"rename", rename_all, SETTLED},
    {"unlink", unlink_all, AT_ONCE},
    {"sequential_write", sequential_write, WITH_MEMORY},
    {"sequential_read", sequential_read, AT_ONCE},
    {"random_write", random_write, SETTLED},
    {"random_read", random_read, AT_ONCE},
};
enum { PHASES = sizeof phases / sizeof *phases };

/* Shared by all clients. */
static struct {
  pthread_barrier_t barrier;
  struct timespec begin;
  long count[PHASES][256];
  double seconds[PHASES][256];
} *shared;

static int wanted(const char *phase) {
  if (!options.phases) return 1;
  size_t length = strlen(phase);
  for (const char *at = options.phases; (at = strstr(at, phase)); at += length)
    if ((at == options.phases || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return 1;
  return 0;
}

static void drop_caches(void) {
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (fd < 0 || write(fd, "2\n", 2) != 2) die("drop_caches");
  close(fd);
}

/*
 * A virtual machine gives free memory back to its host, and who takes it next waits up to 4 µs for each page. So what will be
 * written is written and removed once before: only the same writes take the same frames, as the kernel has large folios of
 * files and small pages from different lists. ftruncate frees them at once; the removal may wait for a server to let go.
 */
static void warm_memory(void) {
  char path[PATH_ROOM];
  int fd = write_large(options.mebibytes * options.clients);
  if (ftruncate(fd, 0) != 0 || close(fd) != 0 || unlink(large_name(path)) != 0) die("write and remove %s/large", base);
}

static void client(long index) {
  size_t length = (size_t)snprintf(base, sizeof base, "%s", options.directory);
  for (long level = 0; level < options.depth; level++) {
    length += (size_t)snprintf(base + length, sizeof base - length, "/c%ldl%ld", index, level);
    if (mkdir(base, 0755) != 0) die("mkdir %s", base);
  }
  for (int i = 0; i < PHASES; i++) {
    if (!wanted(phases[i].name)) continue;
    pthread_barrier_wait(&shared->barrier);
    if (index == 0) {
      if (phases[i].before != AT_ONCE) sync();
      if (phases[i].before == COLD) drop_caches();
      if (phases[i].before == WITH_MEMORY) warm_memory();
      clock_gettime(CLOCK_MONOTONIC, &shared->begin);
    }
    pthread_barrier_wait(&shared->barrier);
    shared->count[i][index] = phases[i].run();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    shared->seconds[i][index] =
        (double)(now.tv_sec - shared->begin.tv_sec) + (double)(now.tv_nsec - shared->begin.tv_nsec) * 1e-9;
  }
  char path[PATH_ROOM];
  if (unlink(large_name(path)) != 0 && errno != ENOENT) die("unlink %s", path);
  for (long i = 0; options.phases && i < options.files; i++) { /* the phase that removes them may not have been wanted */
    unlink(name(path, "file", i));
    unlink(name(path, "moved", i));
  }
  for (long level = 0; level < options.depth; level++) {
    if (rmdir(base) != 0) die("rmdir %s", base);
    *strrchr(base, '/') = 0;
  }
}

static void report(void) {
  const char *separator = "{";
  for (int i = 0; i < PHASES; i++) {
    if (!wanted(phases[i].name)) continue;
    long count = 0;
    double seconds = 1e-9;
    for (long c = 0; c < options.clients; c++) {
      count += shared->count[i][c];
      if (shared->seconds[i][c] > seconds) seconds = shared->seconds[i][c];
    }
    printf("%s\"%s\":%.1f", separator, phases[i].name, (double)count / seconds);
    separator = ",";
  }
  printf("}\n");
}

int main(int argc, char **argv) {
  for (int flag; (flag = getopt(argc, argv, "n:c:m:r:d:p:")) != -1;) switch (flag) {
      case 'n': options.files = atol(optarg); break;
      case 'c': options.clients = atol(optarg); break;
      case 'm': options.mebibytes = atol(optarg); break;
      case 'r': options.random = atol(optarg); break;
      case 'd': options.depth = atol(optarg); break;
      case 'p': options.phases = optarg; break;
      default: return 2;
    }
  if (optind != argc - 1 || options.clients < 1 || options.clients > 256 || options.depth < 0 || options.depth > MAX_DEPTH) {
    fprintf(stderr, "usage: metadata [-n FILES] [-c CLIENTS] [-m MIB] [-r RANDOM] [-d DEPTH] [-p PHASE,...] DIRECTORY\n");
    return 2;
  }
  options.directory = argv[optind];
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) die("mmap");
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&shared->barrier, &attributes, (unsigned)options.clients);
  for (long c = 0; c < options.clients; c++) {
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      client(c);
      exit(0);
    }
  }
  for (long c = 0; c < options.clients; c++) {
    int status;
    if (wait(&status) < 0) die("wait");
    if (status != 0) return 1; /* the others wait at the barrier, and end with their parent */
  }
  report();
  return 0;
}
