/* Preloaded into a child process by the crash tests: counts what SQLite does to the outbox's files and, at the n-th time,
 * kills the process, writes half and kills it, or fails with an error, once or from then on.
 *
 *   FAULT_AT       n, counted from 1 over writes, syncs, truncations and removals
 *   FAULT_DO       kill | torn | EIO | ENOSPC
 *   FAULT_FOREVER  set: every later call fails too
 *   FAULT_ONLY     sync: only syncs fail, the others are counted and pass
 *
 * EIO is not given to removals, ENOSPC only to writes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long count;

static int ours(int fd) {
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0) return 0;
	path[n] = 0;
	return strstr(path, "outbox.db") != NULL && strstr(path, "-shm") == NULL;
}

enum { PASS, KILL, TORN, FAIL };

static int verdict(int writes, int syncs) {
	const char *at = getenv("FAULT_AT"), *what = getenv("FAULT_DO");
	if (!at || !what) return PASS;
	long n = atomic_fetch_add(&count, 1) + 1;
	if (getenv("FAULT_FOREVER") ? n < atol(at) : n != atol(at)) return PASS;
	if (!strcmp(what, "kill")) return KILL;
	if (!strcmp(what, "torn")) return writes ? TORN : KILL;
	if (!strcmp(what, "ENOSPC")) { errno = ENOSPC; return writes ? FAIL : PASS; }
	if (getenv("FAULT_ONLY") && !syncs) return PASS;
	errno = EIO;
	return FAIL;
}

static int die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITER(name, offset)                                                        \
	ssize_t name(int fd, const void *b, size_t n, offset at) {                      \
		switch (ours(fd) ? verdict(1, 0) : PASS) {                                     \
		case KILL: die();                                                           \
		case TORN: REAL(name)(fd, b, n / 2, at); die();                             \
		case FAIL: return -1;                                                       \
		}                                                                           \
		return REAL(name)(fd, b, n, at);                                            \
	}

#define OTHER(name, syncs, params, args)                                                   \
	int name params {                                                               \
		switch (ours(fd) ? verdict(0, syncs) : PASS) {                                     \
		case KILL: case TORN: die();                                                \
		case FAIL: return -1;                                                       \
		}                                                                           \
		return REAL(name) args;                                                     \
	}

WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)
OTHER(fsync, 1, (int fd), (fd))
OTHER(fdatasync, 1, (int fd), (fd))
OTHER(ftruncate, 0, (int fd, off_t to), (fd, to))
OTHER(ftruncate64, 0, (int fd, off64_t to), (fd, to))

int unlink(const char *path) {
	if (strstr(path, "outbox.db") && verdict(0, 0) == KILL) die();
	return REAL(unlink)(path);
}
