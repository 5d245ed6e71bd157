/* Records every change of the files under one folder, by any process, in one log: the history of a disk.
 *
 * Loaded with LD_PRELOAD. POWERCUT_ROOT names the folder and POWERCUT_LOG the log; or a process switches itself with
 * powercut_start(root, log) and powercut_stop(). With POWERCUT_SWALLOW=1 fsync is written down and not carried out: the
 * disk that counts is the one that disk.py rebuilds from the log, in which only what was synced is safe.
 *
 * Each call is carried out and written down under one lock (a robust mutex in LOG.lock that all processes map), so the
 * log's order is the order in which the kernel saw the calls. A process killed between the two leaves a call that the
 * log does not know: on the rebuilt disk it never happened.
 *
 * A record is `struct record`, then path, second path and data. Paths are relative to the root. Not seen are writes
 * through a mapping (SQLite's -shm, which no cut survives; any other shared mapping is recorded and disk.py refuses it),
 * through io_uring, and by glibc's own buffered streams.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, CREATE, RENAME, LINK, UNLINK, MKDIR, RMDIR, SYNC, SYNC_ALL, MAP, MARK };

struct record {
    uint32_t length; /* of the whole record */
    uint32_t kind;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t inode;
    uint64_t offset; /* of WRITE; new size of TRUNCATE */
    uint32_t process;
    uint32_t path_length, other_length, data_length;
};

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)
#define ALIAS(target) __attribute__((alias(#target)))

static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1;
static int swallow;
static pthread_mutex_t *shared_lock;
static __thread int inside; /* this thread holds the lock: its own calls are not recorded */

int powercut_start(const char *folder, const char *log)
{
    char lock[PATH_MAX];
    inside++;
    snprintf(lock, sizeof lock, "%s.lock", log);
    int made = 1, file = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) made = 0, file = open(lock, O_RDWR | O_CLOEXEC);
    if (file < 0 || (made && ftruncate(file, sizeof(pthread_mutex_t) + 1))) return -1;
    struct stat status;
    while (!fstat(file, &status) && (size_t)status.st_size < sizeof(pthread_mutex_t) + 1) usleep(1000);
    char *shared = mmap(NULL, sizeof(pthread_mutex_t) + 1, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) return -1;
    volatile char *ready = shared + sizeof(pthread_mutex_t);
    if (made) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init((pthread_mutex_t *)shared, &attributes);
        __sync_synchronize();
        *ready = 1;
    }
    while (!*ready) usleep(1000);
    shared_lock = (pthread_mutex_t *)shared;
    log_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0 || !realpath(folder, root)) return -1;
    root_length = strlen(root);
    swallow = getenv("POWERCUT_SWALLOW") != NULL;
    inside--;
    return 0;
}

void powercut_stop(void)
{
    inside++;
    if (log_file >= 0) close(log_file);
    log_file = -1;
    inside--;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("POWERCUT_ROOT"), *log = getenv("POWERCUT_LOG");
    if (folder && log && powercut_start(folder, log)) {
        fprintf(stderr, "powercut: cannot record %s in %s: %s\n", folder, log, strerror(errno));
        _exit(99);
    }
}

static void lock(void)
{
    inside++;
    if (pthread_mutex_lock(shared_lock) == EOWNERDEAD) pthread_mutex_consistent(shared_lock);
}

static void unlock(void)
{
    int error = errno;
    pthread_mutex_unlock(shared_lock);
    inside--;
    errno = error;
}

static void put(int kind, uint64_t inode, uint64_t offset, const char *path, const char *other,
                const struct iovec *parts, int count, size_t data)
{
    int error = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record head = {
        .kind = kind, .time_ns = now.tv_sec * 1000000000ull + now.tv_nsec, .inode = inode, .offset = offset,
        .process = getpid(), .path_length = strlen(path), .other_length = strlen(other), .data_length = data,
    };
    head.length = sizeof head + head.path_length + head.other_length + data;
    char *whole = malloc(head.length), *end = whole;
    end = mempcpy(end, &head, sizeof head);
    end = mempcpy(end, path, head.path_length);
    end = mempcpy(end, other, head.other_length);
    for (int number = 0; number < count && data; number++) {
        size_t length = parts[number].iov_len < data ? parts[number].iov_len : data;
        end = mempcpy(end, parts[number].iov_base, length);
        data -= length;
    }
    if (write(log_file, whole, head.length) != (ssize_t)head.length) _exit(98); /* a log with a hole proves nothing */
    free(whole);
    errno = error;
}

static int recording(void) { return log_file >= 0 && !inside; }

/* The part of an absolute path below the root, NULL where it is elsewhere. */
static const char *below(const char *path)
{
    if (strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/')) return NULL;
    return path + root_length + (path[root_length] == '/');
}

/* Where a name points, links in the folders above it resolved; NULL if not below the root. */
static const char *at(int folder, const char *path, char *buffer)
{
    char whole[2 * PATH_MAX], parent[PATH_MAX];
    if (path[0] == '/' || folder == AT_FDCWD) {
        if (path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
        else {
            if (!getcwd(parent, sizeof parent)) return NULL;
            snprintf(whole, sizeof whole, "%s/%s", parent, path);
        }
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, parent, sizeof parent - 1);
        if (length < 0) return NULL;
        parent[length] = 0;
        snprintf(whole, sizeof whole, "%s/%s", parent, path);
    }
    char *slash = strrchr(whole, '/');
    while (slash && slash > whole && !slash[1]) *slash = 0, slash = strrchr(whole, '/');
    if (!slash) return NULL;
    *slash = 0;
    if (!realpath(*whole ? whole : "/", parent)) return NULL;
    if ((size_t)snprintf(buffer, PATH_MAX, "%s/%s", parent, slash + 1) >= PATH_MAX) return NULL;
    return below(buffer);
}

/* The file behind a descriptor, if it is below the root. */
static const char *behind(int file, struct stat *status, char *buffer)
{
    char link[64];
    if (fstat(file, status) || !(S_ISREG(status->st_mode) || S_ISDIR(status->st_mode))) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}

static void wrote(int file, const struct iovec *parts, int count, ssize_t length, off_t offset)
{
    struct stat status;
    char buffer[PATH_MAX];
    const char *path = length > 0 ? behind(file, &status, buffer) : NULL;
    if (!path) return;
    int flags = fcntl(file, F_GETFL);
    if (offset < 0) offset = lseek(file, 0, SEEK_CUR) - length;
    if (flags & O_APPEND) offset = status.st_size - length;
    put(WRITE, status.st_ino, offset, path, "", parts, count, length);
    if (flags & (O_DSYNC | O_SYNC)) put(SYNC, status.st_ino, 0, path, "", NULL, 0, 0);
}

static void wrote_by_kernel(int file, ssize_t length)
{
    if (length <= 0) return;
    char *data = malloc(length), link[64];
    off_t offset = lseek(file, 0, SEEK_CUR) - length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int again = open(link, O_RDONLY | O_CLOEXEC);
    if (pread(again, data, length, offset) != length) _exit(97);
    close(again);
    struct iovec part = {data, length};
    wrote(file, &part, 1, length, offset);
    free(data);
}

ssize_t write(int file, const void *data, size_t length)
{
    REAL(write, ssize_t, int, const void *, size_t);
    if (!recording()) return real(file, data, length);
    lock();
    ssize_t done = real(file, data, length);
    struct iovec part = {(void *)data, length};
    wrote(file, &part, 1, done, -1);
    unlock();
    return done;
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    REAL(writev, ssize_t, int, const struct iovec *, int);
    if (!recording()) return real(file, parts, count);
    lock();
    ssize_t done = real(file, parts, count);
    wrote(file, parts, count, done, -1);
    unlock();
    return done;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset)
{
    REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
    if (!recording()) return real(file, data, length, offset);
    lock();
    ssize_t done = real(file, data, length, offset);
    struct iovec part = {(void *)data, length};
    wrote(file, &part, 1, done, offset);
    unlock();
    return done;
}
ssize_t pwrite64(int, const void *, size_t, off_t) ALIAS(pwrite);

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    REAL(pwritev, ssize_t, int, const struct iovec *, int, off_t);
    if (!recording()) return real(file, parts, count, offset);
    lock();
    ssize_t done = real(file, parts, count, offset);
    wrote(file, parts, count, done, offset);
    unlock();
    return done;
}
ssize_t pwritev64(int, const struct iovec *, int, off_t) ALIAS(pwritev);

ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t offset, int flags)
{
    REAL(pwritev2, ssize_t, int, const struct iovec *, int, off_t, int);
    if (!recording()) return real(file, parts, count, offset, flags);
    lock();
    ssize_t done = real(file, parts, count, offset, flags);
    wrote(file, parts, count, done, offset);
    unlock();
    return done;
}
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) ALIAS(pwritev2);

ssize_t sendfile(int out, int in, off_t *offset, size_t length)
{
    REAL(sendfile, ssize_t, int, int, off_t *, size_t);
    if (!recording()) return real(out, in, offset, length);
    lock();
    ssize_t done = real(out, in, offset, length);
    struct stat status;
    char buffer[PATH_MAX];
    if (done > 0 && behind(out, &status, buffer)) wrote_by_kernel(out, done);
    unlock();
    return done;
}
ssize_t sendfile64(int, int, off_t *, size_t) ALIAS(sendfile);

ssize_t copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t length, unsigned flags)
{
    if (recording()) { /* callers fall back to read and write */
        errno = ENOSYS;
        return -1;
    }
    REAL(copy_file_range, ssize_t, int, off_t *, int, off_t *, size_t, unsigned);
    return real(in, in_offset, out, out_offset, length, flags);
}

int ftruncate(int file, off_t size)
{
    REAL(ftruncate, int, int, off_t);
    if (!recording()) return real(file, size);
    lock();
    int failed = real(file, size);
    struct stat status;
    char buffer[PATH_MAX];
    const char *path = failed ? NULL : behind(file, &status, buffer);
    if (path) put(TRUNCATE, status.st_ino, size, path, "", NULL, 0, 0);
    unlock();
    return failed;
}
int ftruncate64(int, off_t) ALIAS(ftruncate);

int truncate(const char *name, off_t size)
{
    int file = open(name, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -1;
    int failed = ftruncate(file, size), error = errno;
    close(file);
    errno = error;
    return failed;
}
int truncate64(const char *, off_t) ALIAS(truncate);

int posix_fallocate(int file, off_t offset, off_t length)
{
    struct stat status;
    if (fstat(file, &status)) return errno;
    return status.st_size >= offset + length ? 0 : ftruncate(file, offset + length) ? errno : 0;
}
int posix_fallocate64(int, off_t, off_t) ALIAS(posix_fallocate);

static int open_and_note(int folder, const char *name, int flags, mode_t mode)
{
    REAL(openat, int, int, const char *, int, ...);
    if (!recording() || !(flags & (O_CREAT | O_TRUNC))) return real(folder, name, flags, mode);
    lock();
    char buffer[PATH_MAX];
    const char *path = at(folder, name, buffer);
    struct stat before, after;
    int existed = path && !fstatat(folder, name, &before, 0);
    int file = real(folder, name, flags, mode);
    if (path && file >= 0 && !fstat(file, &after) && S_ISREG(after.st_mode)) {
        if (flags & O_TMPFILE & ~O_DIRECTORY) path = "";
        if (!existed) put(CREATE, after.st_ino, 0, path, "", NULL, 0, 0);
        else if (flags & O_TRUNC) put(TRUNCATE, after.st_ino, 0, path, "", NULL, 0, 0);
    }
    unlock();
    return file;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...) { MODE(flags) return open_and_note(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return open_and_note(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags) return open_and_note(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags) return open_and_note(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return open_and_note(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *, mode_t) ALIAS(creat);

int renameat2(int old_folder, const char *old, int new_folder, const char *new, unsigned flags)
{
    REAL(renameat2, int, int, const char *, int, const char *, unsigned);
    if (!recording()) return real(old_folder, old, new_folder, new, flags);
    lock();
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *from = at(old_folder, old, from_buffer), *to = at(new_folder, new, to_buffer);
    struct stat status;
    int failed = fstatat(old_folder, old, &status, AT_SYMLINK_NOFOLLOW) || real(old_folder, old, new_folder, new, flags);
    if (!failed && (from || to)) put(RENAME, status.st_ino, flags, from ? from : "", to ? to : "", NULL, 0, 0);
    unlock();
    return failed ? -1 : 0;
}
int renameat(int a, const char *old, int b, const char *new) { return renameat2(a, old, b, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int old_folder, const char *old, int new_folder, const char *new, int flags)
{
    REAL(linkat, int, int, const char *, int, const char *, int);
    if (!recording()) return real(old_folder, old, new_folder, new, flags);
    lock();
    char buffer[PATH_MAX];
    struct stat status;
    const char *to = at(new_folder, new, buffer);
    int failed = real(old_folder, old, new_folder, new, flags);
    if (!failed && to && !fstatat(new_folder, new, &status, AT_SYMLINK_NOFOLLOW))
        put(LINK, status.st_ino, 0, to, "", NULL, 0, 0);
    unlock();
    return failed;
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *name, int flags)
{
    REAL(unlinkat, int, int, const char *, int);
    if (!recording()) return real(folder, name, flags);
    lock();
    char buffer[PATH_MAX];
    struct stat status;
    const char *path = at(folder, name, buffer);
    int failed = fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) || real(folder, name, flags);
    if (!failed && path) put(flags & AT_REMOVEDIR ? RMDIR : UNLINK, status.st_ino, 0, path, "", NULL, 0, 0);
    unlock();
    return failed ? -1 : 0;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode)
{
    REAL(mkdirat, int, int, const char *, mode_t);
    if (!recording()) return real(folder, name, mode);
    lock();
    char buffer[PATH_MAX];
    struct stat status;
    const char *path = at(folder, name, buffer);
    int failed = real(folder, name, mode);
    if (!failed && path && !fstatat(folder, name, &status, 0)) put(MKDIR, status.st_ino, 0, path, "", NULL, 0, 0);
    unlock();
    return failed;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

static int synced(int file, int (*real)(int))
{
    struct stat status;
    char buffer[PATH_MAX];
    lock();
    const char *path = behind(file, &status, buffer);
    int failed = path && swallow ? 0 : real(file);
    if (!failed && path) put(SYNC, status.st_ino, 0, path, "", NULL, 0, 0);
    unlock();
    return failed;
}

int fsync(int file)
{
    REAL(fsync, int, int);
    return recording() ? synced(file, real) : real(file);
}

int fdatasync(int file)
{
    REAL(fdatasync, int, int);
    return recording() ? synced(file, real) : real(file);
}

/* sync_file_range(2) promises nothing after a cut: it is carried out and not counted as a sync. */

void sync(void)
{
    if (recording()) lock(), put(SYNC_ALL, 0, 0, "", "", NULL, 0, 0), unlock();
}

int syncfs(int file)
{
    struct stat status;
    char buffer[PATH_MAX];
    if (recording() && behind(file, &status, buffer)) sync();
    return 0;
}

void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset)
{
    REAL(mmap, void *, void *, size_t, int, int, int, off_t);
    void *mapped = real(address, length, protection, flags, file, offset);
    if (mapped == MAP_FAILED || file < 0 || !(flags & MAP_SHARED) || !(protection & PROT_WRITE) || !recording())
        return mapped;
    struct stat status;
    char buffer[PATH_MAX];
    lock();
    const char *path = behind(file, &status, buffer);
    if (path) put(MAP, status.st_ino, offset, path, "", NULL, 0, 0);
    unlock();
    return mapped;
}
void *mmap64(void *, size_t, int, int, int, off_t) ALIAS(mmap);

/* Something that happened outside the disk, in the order of the log: a bottle fell, a customer was told. */
void powercut_mark(const char *text)
{
    if (log_file < 0) return;
    lock();
    struct iovec part = {(void *)text, strlen(text)};
    put(MARK, 0, 0, "", "", &part, 1, part.iov_len);
    unlock();
}

/* Where the log ends now. */
int64_t powercut_position(void)
{
    struct stat status;
    return log_file >= 0 && !fstat(log_file, &status) ? status.st_size : -1;
}
