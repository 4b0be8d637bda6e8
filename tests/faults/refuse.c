/* Loaded with LD_PRELOAD: counts the calls that change files under one folder, and lets the nth of them fail.
   gcc -shared -fPIC -o refuse.so refuse.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char below[4096];
static long nth, counted, error_number, forever;

/* From now on the nth change under `folder` fails with `error`; 0: none does. always: and all that follow. */
void refuse_from(const char *folder, long which, long error, long always) {
    snprintf(below, sizeof below, "%s", folder);
    nth = which, error_number = error, forever = always, counted = 0;
}

long changes(void) { return counted; }

static int ours(int at, const char *path) {
    char whole[8192], from[4096] = "", link[64];
    if (!*below || !path) return 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(from, sizeof from)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t n = readlink(link, from, sizeof from - 1);
            if (n < 0) return 0;
            from[n] = 0;
        }
    }
    snprintf(whole, sizeof whole, "%s%s%s", from, *from ? "/" : "", path);
    return !strncmp(whole, below, strlen(below));
}

static int open_file(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return ours(AT_FDCWD, path);
}

static int fails(int counts) {
    if (!counts) return 0;
    counted++;
    if (!nth || (forever ? counted < nth : counted != nth)) return 0;
    errno = error_number;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
#define WRITES(flags) ((flags) & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))

int open(const char *path, int flags, ...) {
    MODE(flags)
    return fails(WRITES(flags) && ours(AT_FDCWD, path)) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return fails(WRITES(flags) && ours(AT_FDCWD, path)) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    return fails(WRITES(flags) && ours(at, path)) ? -1 : REAL(openat)(at, path, flags, mode);
}
ssize_t write(int fd, const void *data, size_t n) { return fails(open_file(fd)) ? -1 : REAL(write)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return fails(open_file(fd)) ? -1 : REAL(pwrite)(fd, data, n, at); }
int fsync(int fd) { return fails(open_file(fd)) ? -1 : REAL(fsync)(fd); }
int ftruncate(int fd, off_t n) { return fails(open_file(fd)) ? -1 : REAL(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { return fails(open_file(fd)) ? -1 : REAL(ftruncate64)(fd, n); }
int mkdir(const char *path, mode_t mode) { return fails(ours(AT_FDCWD, path)) ? -1 : REAL(mkdir)(path, mode); }
int chmod(const char *path, mode_t mode) { return fails(ours(AT_FDCWD, path)) ? -1 : REAL(chmod)(path, mode); }
int rename(const char *from, const char *to) { return fails(ours(AT_FDCWD, to)) ? -1 : REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { return fails(ours(b, to)) ? -1 : REAL(renameat)(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned how) {
    return fails(ours(b, to)) ? -1 : REAL(renameat2)(a, from, b, to, how);
}
int link(const char *from, const char *to) { return fails(ours(AT_FDCWD, to)) ? -1 : REAL(link)(from, to); }
int symlink(const char *to, const char *path) { return fails(ours(AT_FDCWD, path)) ? -1 : REAL(symlink)(to, path); }
