// A disk that fails, for tests: preloaded, it stands before the system calls that change files.
//
// fault_arm(folder, at, mode) counts those below a folder from 1 on. What happens at call number `at`:
//   'n' ENOSPC, 'i' EIO: it fails, once;   'N': it and all that follow fail with ENOSPC
//   's': a write takes half of what it is given (others are let through)
//   'k': the process dies (SIGKILL), a write having done half
// Every sync that succeeds, every file and folder that is made, every rename is noted in the file `notes`, so that a test
// can take back what was not synced.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char watched[512];
static long at, calls;
static int mode, notes = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void fault_arm(const char* folder, long call, int how, int notes_file) {
  snprintf(watched, sizeof(watched), "%s", folder);
  at = call;
  mode = how;
  notes = notes_file;
  __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
}
void fault_disarm(void) { at = 0; }
long fault_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

static int is_watched(const char* path) { return watched[0] != 0 && strncmp(path, watched, strlen(watched)) == 0; }

static int path_of(int file, char* path, size_t size) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_watched(path);
}

static void note(const char* what, const char* first, const char* second, long size) {
  char line[2048];
  if (notes < 0) return;
  const int length = snprintf(line, sizeof(line), "%s\t%s\t%s\t%ld\n", what, first, second, size);
  if (REAL(write)(notes, line, (size_t)length) != length) raise(SIGABRT);
}

// 0: go on; 1: half of a write; else an errno.
static int strike(void) {
  const long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
  if (at == 0 || call < at || (call > at && mode != 'N')) return 0;
  switch (mode) {
    case 'i':
      return EIO;
    case 's':
    case 'k':
      return 1;
    default:
      return ENOSPC;
  }
}

static void die(void) {
  if (mode == 'k') raise(SIGKILL);
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  char path[1024];
  const int blow = path_of(file, path, sizeof(path)) ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  const ssize_t done = REAL(pwrite)(file, bytes, blow == 1 && size > 1 ? size / 2 : size, offset);
  if (blow == 1) die();
  return done;
}
ssize_t pwrite64(int file, const void* bytes, size_t size, off_t offset) { return pwrite(file, bytes, size, offset); }

ssize_t write(int file, const void* bytes, size_t size) {
  char path[1024];
  const int blow = path_of(file, path, sizeof(path)) ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  const ssize_t done = REAL(write)(file, bytes, blow == 1 && size > 1 ? size / 2 : size);
  if (blow == 1) die();
  return done;
}

static int synced(int file, int (*sync)(int)) {
  char path[1024];
  struct stat status;
  const int is_ours = path_of(file, path, sizeof(path));
  const int blow = is_ours ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  if (blow == 1) die();
  const long size = is_ours && fstat(file, &status) == 0 ? (long)status.st_size : 0;  // what is written later is not
  const int result = sync(file);
  if (is_ours && result == 0) note(S_ISDIR(status.st_mode) ? "folder" : "sync", path, "", size);
  return result;
}
int fsync(int file) { return synced(file, REAL(fsync)); }
int fdatasync(int file) { return synced(file, REAL(fdatasync)); }

int ftruncate(int file, off_t size) {
  char path[1024];
  const int blow = path_of(file, path, sizeof(path)) ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  if (blow == 1) die();
  return REAL(ftruncate)(file, size);
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }

int rename(const char* from, const char* to) {
  const int blow = is_watched(to) ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  if (blow == 1) die();
  const int result = REAL(rename)(from, to);
  if (is_watched(to) && result == 0) note("rename", from, to, 0);
  return result;
}

int mkdir(const char* path, mode_t permissions) {
  const int blow = is_watched(path) ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  if (blow == 1) die();
  const int result = REAL(mkdir)(path, permissions);
  if (is_watched(path) && result == 0) note("make", path, "", 0);
  return result;
}

int unlink(const char* path) {
  const int blow = is_watched(path) ? strike() : 0;
  if (blow == 1) die();
  return REAL(unlink)(path);
}
int remove(const char* path) {
  const int blow = is_watched(path) ? strike() : 0;
  if (blow == 1) die();
  return REAL(remove)(path);
}

static int opened(int (*open_file)(const char*, int, ...), const char* path, int flags, mode_t permissions) {
  const int makes = (flags & O_CREAT) != 0 && is_watched(path);
  const int blow = makes ? strike() : 0;
  if (blow > 1) {
    errno = blow;
    return -1;
  }
  if (blow == 1) die();
  const int file = open_file(path, flags, permissions);
  if (makes && file >= 0) note("make", path, "", 0);
  return file;
}
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t permissions = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return opened(REAL(open), path, flags, permissions);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t permissions = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return opened(REAL(open64), path, flags, permissions);
}
