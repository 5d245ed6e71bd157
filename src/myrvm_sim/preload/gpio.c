/* The simulated GPIO chip, seen from a program: LD_PRELOAD this library, and /dev/gpiochipN is there while the socket
 * $MYRVM_GPIO/gpiochipN is. A stand-in for the kernel's character device; `myrvm_sim/gpio_server.py` is the other side.
 *
 * A chip, a line request, a watched line: each open file is one end of a socket pair that the server has handed to us.
 * Its own name says which file of which server it is ("\0gpio" + eight hex digits + the path of the server's socket), so
 * that nothing is remembered here: fork, dup, exec and close need no help, and the server sees when the last copy is
 * closed. A token in the socket says that there are events to read. An ioctl or a read is one message and one answer on
 * a connection of its own; idle connections are kept for the next one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX "\0gpio"
enum { PREFIX_SIZE = 5, ID_SIZE = 8, PATH_AT = PREFIX_SIZE + ID_SIZE };
enum { OPEN = 0, READ = 1 }; /* requests that are no ioctl */
enum { CHIPS = 32, MAJOR = 254, IDLE = 8, PATIENCE_S = 5, SMALLEST_EVENT = sizeof(struct gpioevent_data) };

struct question { uint32_t number, file; };
struct answer { int32_t result; uint32_t token; }; /* result: negative errno; token: the newest that has been dealt with */

static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static int idle[IDLE], idle_count;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Connections to the server. */

static void after_fork(void) { /* the parent goes on using them */
    for (int i = 0; i < idle_count; i++) syscall(SYS_close, idle[i]);
    idle_count = 0;
    pthread_mutex_init(&idle_lock, NULL);
}

static int leads_to(int fd, const char *path) {
    struct sockaddr_un peer = {0};
    socklen_t size = sizeof peer - 1;
    return !getpeername(fd, (struct sockaddr *)&peer, &size) && peer.sun_family == AF_UNIX && !strcmp(peer.sun_path, path);
}

static int take_connection(const char *path) {
    int fd = -1;
    pthread_mutex_lock(&idle_lock);
    for (int i = 0; i < idle_count && fd < 0; i++)
        if (leads_to(idle[i], path)) { /* also proof that nobody has closed it under us */
            fd = idle[i];
            idle[i] = idle[--idle_count];
        }
    pthread_mutex_unlock(&idle_lock);
    return fd;
}

static void give_connection(int fd) {
    pthread_mutex_lock(&idle_lock);
    int at = 0; /* it is in the list still where somebody has closed it under us and its number came anew */
    while (at < idle_count && idle[at] != fd) at++;
    int kept = at < IDLE;
    if (kept && at == idle_count) idle[idle_count++] = fd;
    pthread_mutex_unlock(&idle_lock);
    if (!kept) close(fd);
}

static int dial(const char *path) {
    struct sockaddr_un server = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    strncpy(server.sun_path, path, sizeof server.sun_path - 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) == 0) return fd;
    close(fd);
    errno = ENODEV;
    return -1;
}

static ssize_t exchange(int connection, struct msghdr *out, struct msghdr *in) {
    ssize_t size = sendmsg(connection, out, MSG_NOSIGNAL);
    while (size >= 0 && (size = recvmsg(connection, in, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) size = 0;
    return size;
}

/* One question and its answer. `data` is sent (`out` bytes) and overwritten by what comes (at most `in` bytes). A
 * descriptor that comes with the answer goes to `*received`. The answer's size without its head, or -1 and errno. */
static ssize_t ask(const char *path, struct question question, void *data, size_t out, size_t in, struct answer *answer,
                   int *received) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control;
    for (int attempt = 0; attempt < 2; attempt++) {
        int kept = take_connection(path), connection = kept >= 0 ? kept : dial(path);
        if (connection < 0) return -1;
        struct iovec sent[2] = {{&question, sizeof question}, {data, out}};
        struct iovec got[2] = {{answer, sizeof *answer}, {data, in}};
        struct msghdr to = {.msg_iov = sent, .msg_iovlen = 2};
        struct msghdr from = {.msg_iov = got, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t size = exchange(connection, &to, &from);
        if (size < (ssize_t)sizeof *answer) {
            close(connection);
            if (size < 0 && errno == EAGAIN) return errno = ETIMEDOUT, -1; /* the server is stuck */
            if (kept >= 0) continue; /* it led to a server that has gone: there may be another */
            return errno = ENODEV, -1;
        }
        struct cmsghdr *header = CMSG_FIRSTHDR(&from);
        if (header && header->cmsg_type == SCM_RIGHTS && received) memcpy(received, CMSG_DATA(header), sizeof(int));
        give_connection(connection);
        if (answer->result < 0) return errno = -answer->result, -1;
        return size - (ssize_t)sizeof *answer;
    }
    return errno = ENODEV, -1;
}

/* Files of the chip. */

static int file_of(int fd, uint32_t *file, char path[static 108]) {
    struct sockaddr_un name;
    socklen_t size = sizeof name;
    int before = errno;
    if (getsockname(fd, (struct sockaddr *)&name, &size)) return errno = before, 0;
    size_t length = size - offsetof(struct sockaddr_un, sun_path);
    if (name.sun_family != AF_UNIX || size <= offsetof(struct sockaddr_un, sun_path) + PATH_AT) return 0;
    if (memcmp(name.sun_path, PREFIX, PREFIX_SIZE)) return 0;
    char digits[ID_SIZE + 1] = {0};
    memcpy(digits, name.sun_path + PREFIX_SIZE, ID_SIZE);
    *file = (uint32_t)strtoul(digits, NULL, 16);
    memcpy(path, name.sun_path + PATH_AT, length - PATH_AT);
    path[length - PATH_AT] = 0;
    return 1;
}

int ioctl(int fd, unsigned long number, ...) {
    REAL(ioctl);
    va_list arguments;
    va_start(arguments, number);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    struct question question = {.number = (uint32_t)number};
    struct answer answer;
    char path[108];
    int received = -1;
    if (_IOC_TYPE(number) != 0xB4 || !file_of(fd, &question.file, path)) return real(fd, number, data);
    if (ask(path, question, data, _IOC_SIZE(number), _IOC_SIZE(number), &answer, &received) < 0) return -1;
    if (number == GPIO_V2_GET_LINE_IOCTL) ((struct gpio_v2_line_request *)data)->fd = received;
    if (number == GPIO_GET_LINEHANDLE_IOCTL) ((struct gpiohandle_request *)data)->fd = received;
    if (number == GPIO_GET_LINEEVENT_IOCTL) ((struct gpioevent_request *)data)->fd = received;
    return answer.result;
}

static ssize_t read_events(int fd, const char *path, uint32_t file, void *data, size_t size) {
    struct question question = {READ, file};
    for (;;) {
        struct answer answer;
        uint32_t token, wanted = (uint32_t)size;
        memcpy(data, &wanted, sizeof wanted);
        ssize_t got = ask(path, question, data, sizeof wanted, size, &answer, NULL);
        if (got < 0) return -1;
        /* Tokens that the server counts as dealt with no longer make the file readable. */
        ssize_t waits = recv(fd, &token, sizeof token, MSG_PEEK | (got ? MSG_DONTWAIT : 0));
        if (waits > 0 && (int32_t)(token - answer.token) <= 0) waits = recv(fd, &token, sizeof token, MSG_DONTWAIT);
        if (got > 0) return got;
        if (waits == 0) return errno = ENODEV, -1;
        if (waits < 0) return -1;
    }
}

ssize_t read(int fd, void *data, size_t size) {
    REAL(read);
    uint32_t file;
    char path[108];
    if (size >= SMALLEST_EVENT && file_of(fd, &file, path)) return read_events(fd, path, file, data, size);
    return real(fd, data, size);
}

ssize_t __read_chk(int fd, void *data, size_t size, size_t room) { return read(fd, data, size < room ? size : room); }

/* Paths. */

static int chip_socket(unsigned number, char path[static 108]) {
    const char *folder = getenv("MYRVM_GPIO");
    if (!folder || number >= CHIPS) return 0;
    int length = snprintf(path, 108, "%s/gpiochip%u", folder, number);
    int before = errno, there = length < 108 && !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    errno = before;
    return there;
}

static int chip_in(const char *path, const char *pattern, unsigned *number, char socket_path[static 108]) {
    int end = 0; /* %n: the whole of it must match */
    return path && sscanf(path, pattern, number, &end) == 1 && end && !path[end] && chip_socket(*number, socket_path);
}

static int is_chip(const char *path, unsigned *number, char socket_path[static 108]) {
    return chip_in(path, "/dev/gpiochip%u%n", number, socket_path);
}

static int is_sysfs(const char *path, unsigned *number) {
    char ignored[108];
    return chip_in(path, "/sys/bus/gpio/devices/gpiochip%u/dev%n", number, ignored);
}

static int open_chip(const char *path, int flags) {
    struct question question = {OPEN, 0};
    struct answer answer;
    char nothing;
    int fd = -1;
    if (ask(path, question, &nothing, 0, 0, &answer, &fd) < 0) return -1;
    if (fd < 0) return errno = EMFILE, -1;
    if (!(flags & O_CLOEXEC)) fcntl(fd, F_SETFD, 0);
    if (flags & O_NONBLOCK) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static int open_sysfs(unsigned number) {
    int fd = memfd_create("gpiochip", MFD_CLOEXEC);
    if (fd >= 0) dprintf(fd, "%u:%u\n", MAJOR, number), lseek(fd, 0, SEEK_SET);
    return fd;
}

#define OPEN_CHIP(path, flags) \
    unsigned chip; \
    char socket_path[108]; \
    if (is_chip(path, &chip, socket_path)) return open_chip(socket_path, flags); \
    if (is_sysfs(path, &chip)) return open_sysfs(chip)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
    }

#define DEFINE_OPEN(name) \
    int name(const char *path, int flags, ...) { REAL(name); MODE(flags); OPEN_CHIP(path, flags); return real(path, flags, mode); }
#define DEFINE_OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); MODE(flags); OPEN_CHIP(path, flags); return real(folder, path, flags, mode); }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int __openat_2(int folder, const char *path, int flags) { return openat(folder, path, flags); }
int __openat64_2(int folder, const char *path, int flags) { return openat64(folder, path, flags); }

static int status_of(const char *path, struct stat *status) { /* struct stat64 is the same on 64-bit machines */
    unsigned chip;
    char socket_path[108];
    if (!is_chip(path, &chip, socket_path)) return 0;
    memset(status, 0, sizeof *status);
    status->st_mode = S_IFCHR | 0660;
    status->st_rdev = makedev(MAJOR, chip);
    status->st_nlink = 1;
    return 1;
}

#define DEFINE_STAT(name, older, type) \
    int name(const char *path, struct type *status) { \
        REAL(name); return status_of(path, (struct stat *)status) ? 0 : real(path, status); } \
    int older(int version, const char *path, struct type *status) { /* programs built for an older C library */ \
        static int (*real)(int, const char *, struct type *); \
        if (!real) real = (int (*)(int, const char *, struct type *))dlsym(RTLD_NEXT, #older); \
        return status_of(path, (struct stat *)status) ? 0 : real(version, path, status); }
#define DEFINE_STATAT(name, type) \
    int name(int folder, const char *path, struct type *status, int flags) { \
        REAL(name); return status_of(path, (struct stat *)status) ? 0 : real(folder, path, status, flags); }
DEFINE_STAT(stat, __xstat, stat)
DEFINE_STAT(lstat, __lxstat, stat)
DEFINE_STAT(stat64, __xstat64, stat64)
DEFINE_STAT(lstat64, __lxstat64, stat64)
DEFINE_STATAT(fstatat, stat)
DEFINE_STATAT(fstatat64, stat64)

int statx(int folder, const char *path, int flags, unsigned int mask, struct statx *status) {
    REAL(statx);
    struct stat plain;
    if (!status_of(path, &plain)) return real(folder, path, flags, mask, status);
    *status = (struct statx){.stx_mask = STATX_BASIC_STATS, .stx_mode = plain.st_mode, .stx_nlink = plain.st_nlink};
    status->stx_rdev_major = major(plain.st_rdev);
    status->stx_rdev_minor = minor(plain.st_rdev);
    return 0;
}

static int may_access(const char *path) {
    unsigned chip;
    char socket_path[108];
    return is_chip(path, &chip, socket_path) || is_sysfs(path, &chip);
}

int access(const char *path, int mode) { REAL(access); return may_access(path) ? 0 : real(path, mode); }

int faccessat(int folder, const char *path, int mode, int flags) {
    REAL(faccessat);
    return may_access(path) ? 0 : real(folder, path, mode, flags);
}

char *realpath(const char *path, char *resolved) {
    REAL(realpath);
    unsigned chip;
    char socket_path[108];
    const char *known = NULL;
    if (is_chip(path, &chip, socket_path)) known = path;
    if (chip_in(path, "/sys/dev/char/254:%u/subsystem%n", &chip, socket_path)) known = "/sys/bus/gpio";
    if (!known) return real(path, resolved);
    return resolved ? strcpy(resolved, known) : strdup(known);
}

char *__realpath_chk(const char *path, char *resolved, size_t room) { return (void)room, realpath(path, resolved); }

/* /dev, listed: our chips come after what is there. */

static DIR *listed; /* the one listing of /dev under way; a second at the same time shows no chips in the first */
static unsigned next_chip;

DIR *opendir(const char *path) {
    REAL(opendir);
    DIR *folder = real(path);
    if (folder && getenv("MYRVM_GPIO") && (!strcmp(path, "/dev") || !strcmp(path, "/dev/"))) listed = folder, next_chip = 0;
    return folder;
}

int closedir(DIR *folder) {
    REAL(closedir);
    if (folder == listed) listed = NULL;
    return real(folder);
}

static struct dirent *chip_entry(struct dirent *entry) {
    char socket_path[108];
    while (next_chip < CHIPS && !chip_socket(next_chip, socket_path)) next_chip++;
    if (next_chip >= CHIPS) return NULL;
    *entry = (struct dirent){.d_ino = 1 + next_chip, .d_type = DT_CHR, .d_reclen = sizeof *entry};
    snprintf(entry->d_name, sizeof entry->d_name, "gpiochip%u", next_chip++);
    return entry;
}

struct dirent *readdir(DIR *folder) {
    REAL(readdir);
    static struct dirent entry;
    struct dirent *next = real(folder);
    return next || folder != listed ? next : chip_entry(&entry);
}

struct dirent64 *readdir64(DIR *folder) { return (struct dirent64 *)readdir(folder); } /* the same on 64-bit machines */

int scandir(const char *path, struct dirent ***list, int (*wanted)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **)) {
    REAL(scandir);
    if (!getenv("MYRVM_GPIO") || (strcmp(path, "/dev") && strcmp(path, "/dev/"))) return real(path, list, wanted, compare);
    DIR *folder = opendir(path);
    int count = 0;
    if (!folder) return -1;
    *list = NULL;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (wanted && !wanted(entry)) continue;
        struct dirent *copy = calloc(1, sizeof *copy);
        struct dirent **longer = realloc(*list, (count + 1) * sizeof *longer);
        if (!copy || !longer) abort();
        memcpy(copy, entry, entry->d_reclen < sizeof *copy ? entry->d_reclen : sizeof *copy);
        (*list = longer)[count++] = copy;
    }
    closedir(folder);
    if (compare && count) qsort(*list, count, sizeof **list, (int (*)(const void *, const void *))compare);
    return count;
}

int scandir64(const char *path, struct dirent64 ***list, int (*wanted)(const struct dirent64 *),
              int (*compare)(const struct dirent64 **, const struct dirent64 **)) {
    return scandir(path, (struct dirent ***)list, (int (*)(const struct dirent *))wanted,
                   (int (*)(const struct dirent **, const struct dirent **))compare);
}

__attribute__((constructor)) static void begin(void) { pthread_atfork(NULL, NULL, after_fork); }
