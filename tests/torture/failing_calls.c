/* Loaded before the C library (LD_PRELOAD): lets the k-th call of one kind fail.
 *
 * Only calls on files whose names contain a mark are counted. arm() chooses what fails;
 * counted() says how many such calls there were since.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char kind[32], mark[256];
static long failing, calls;
static int number;

void arm(const char *which, const char *folder, long call, int error)
{
    snprintf(kind, sizeof kind, "%s", which);
    snprintf(mark, sizeof mark, "%s", folder);
    failing = call;
    number = error;
    calls = 0;
}

long counted(void) { return calls; }

static int fails(const char *which, const char *name)
{
    if (strcmp(which, kind) || !strstr(name, mark))
        return 0;
    return __sync_add_and_fetch(&calls, 1) == failing;
}

static int fails_on(const char *which, int descriptor)
{
    char link[64], name[4096];
    if (strcmp(which, kind))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0)
        return 0;
    name[length] = 0;
    return fails(which, name);
}

#define CALL(type, name, subject, failed, parameters, arguments)                            \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*next) parameters;                                                             \
        if (!next)                                                                                 \
            next = dlsym(RTLD_NEXT, #name);                                                        \
        if (subject) {                                                                             \
            errno = number;                                                                        \
            return failed;                                                                         \
        }                                                                                          \
        return next arguments;                                                                     \
    }

CALL(ssize_t, write, fails_on("write", fd), -1,
     (int fd, const void *bytes, size_t size), (fd, bytes, size))
CALL(ssize_t, pwrite64, fails_on("pwrite", fd), -1,
     (int fd, const void *bytes, size_t size, off64_t at), (fd, bytes, size, at))
CALL(int, fsync, fails_on("fsync", fd), -1, (int fd), (fd))
CALL(int, ftruncate64, fails_on("ftruncate", fd), -1, (int fd, off64_t size), (fd, size))
CALL(int, posix_fallocate64, fails_on("fallocate", fd), number,
     (int fd, off64_t from, off64_t size), (fd, from, size))
CALL(int, flock, fails_on("flock", fd), -1, (int fd, int operation), (fd, operation))
CALL(int, rename, fails("rename", to), -1, (const char *from, const char *to), (from, to))
