/* Loaded before the C library (LD_PRELOAD): counts the calls that change files, and interrupts the program at one of them.
 *
 * FAULT_AT=n        the number of the call, from 1
 * FAULT=kill        the process is killed (SIGKILL) before this call
 * FAULT=half        the same, but after half of the bytes if the call is a write
 * FAULT=fail        this call fails with "no space left on device"
 * FAULT=full        this call and all later ones that need space fail that way
 * FAULT_COUNT=file  the file that receives the number of calls at the end
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls, at;
static enum { NONE, KILL, HALF, FAIL, FULL } kind;

__attribute__((constructor)) static void begin(void) {
    const char *n = getenv("FAULT_AT"), *k = getenv("FAULT");
    at = n ? atol(n) : 0;
    if (k) kind = !strcmp(k, "kill") ? KILL : !strcmp(k, "half") ? HALF : !strcmp(k, "fail") ? FAIL : FULL;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    if (!path) return;
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", calls);
    int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file >= 0) { syscall(SYS_write, file, text, length); syscall(SYS_close, file); }
}

/* Whether this call is to fail; may not return. */
static int fails(int needs_space) {
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (!at || call < at || kind == NONE) return 0;
    if (call == at && (kind == KILL || kind == HALF)) raise(SIGKILL);
    if (call == at || (kind == FULL && needs_space)) { errno = ENOSPC; return 1; }
    return 0;
}

static int is_file(int fd) {
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length) {
    if (is_file(fd)) {
        if (kind == HALF && __atomic_load_n(&calls, __ATOMIC_RELAXED) + 1 == at) NEXT(write)(fd, bytes, length / 2);
        if (fails(1)) return -1;
    }
    return NEXT(write)(fd, bytes, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_file(fd) && fails(1) ? -1 : NEXT(writev)(fd, parts, count);
}
int fsync(int fd) { return fails(1) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails(1) ? -1 : NEXT(fdatasync)(fd); }
int ftruncate64(int fd, off64_t length) { return fails(0) ? -1 : NEXT(ftruncate64)(fd, length); }
int rename(const char *from, const char *to) { return fails(0) ? -1 : NEXT(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails(1) ? -1 : NEXT(mkdir)(path, mode); }
int unlink(const char *path) { return fails(0) ? -1 : NEXT(unlink)(path); }
int unlinkat(int folder, const char *path, int flags) { return fails(0) ? -1 : NEXT(unlinkat)(folder, path, flags); }
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    return (flags & O_CREAT) && fails(1) ? -1 : NEXT(open64)(path, flags, mode);
}
long syscall(long number, ...) {
    va_list rest; va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
    long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    return number == SYS_renameat2 && fails(0) ? -1 : NEXT(syscall)(number, a, b, c, d, e, f);
}
