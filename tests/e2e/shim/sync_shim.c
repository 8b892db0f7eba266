/* Stands before fsync and fdatasync (LD_PRELOAD) and does what the file named by SYNC_SHIM_ORDERS says at that moment:
 * "pass", "delay <milliseconds>", "fail", or "fail <part of a path>" for the files with such a path. Each call adds a byte to the file named by SYNC_SHIM_COUNT. Both calls are
 * covered because SQLite uses one or the other, depending on how it was built. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void count(void) {
    const char *path = getenv("SYNC_SHIM_COUNT");
    if (!path) return;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) return;
    if (write(file, ".", 1) != 1) abort();
    close(file);
}

/* Whether the path of an open file has this part. */
static int is_in(int file, const char *part) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

/* Returns whether the sync is to fail; waits where it is to be delayed. */
static int obey(int synced) {
    char order[64] = "";
    const char *path = getenv("SYNC_SHIM_ORDERS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, order, sizeof order - 1);
    close(file);
    if (length < 0) return 0;
    long milliseconds;
    if (sscanf(order, "delay %ld", &milliseconds) == 1) {
        struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
    }
    if (strncmp(order, "fail ", 5) == 0) return is_in(synced, order + 5);
    return strcmp(order, "fail") == 0;
}

static int sync_with(long call, int file) {
    count();
    if (obey(file)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return sync_with(SYS_fsync, file); }

int fdatasync(int file) { return sync_with(SYS_fdatasync, file); }
