/* Logs every heap call of the program it is preloaded into (LD_PRELOAD; glibc): one struct event a call, in order, to
 * the file named by MEMHIER_HEAP_LOG, which must not exist yet. Processes that the program starts are not logged. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

/* got: the block the call returned, or 0; gave: the block it took back, or 0; size: the bytes asked for. */
struct event { uint64_t time_ns, got, gave, size; };

#define CAPACITY 65536
static struct event events[CAPACITY];
static size_t used;
static int file = -2; /* -2: not opened yet, -1: not logging */
static int ending;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void flush(void)
{
    const char *at = (const char *)events;
    size_t left = used * sizeof(struct event);
    if (file == -2) {
        const char *name = getenv("MEMHIER_HEAP_LOG");
        file = name ? open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    }
    while (file >= 0 && left > 0) {
        ssize_t written = write(file, at, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            _exit(97); /* a log with a hole is worse than none */
        at += written;
        left -= (size_t)written;
    }
    used = 0;
}

static void note(const void *got, const void *gave, size_t size) /* with the lock held */
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    events[used++] = (struct event){(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                                    (uintptr_t)got, (uintptr_t)gave, size};
    if (used == CAPACITY || ending)
        flush();
}

static void *noted(void *got, size_t size) /* with the lock held: note an allocation, release the lock */
{
    int error = errno;
    if (got)
        note(got, NULL, size);
    pthread_mutex_unlock(&lock);
    errno = error;
    return got;
}

void *malloc(size_t size)
{
    pthread_mutex_lock(&lock);
    return noted(__libc_malloc(size), size);
}

void *calloc(size_t count, size_t size)
{
    pthread_mutex_lock(&lock);
    return noted(__libc_calloc(count, size), count * size);
}

void *memalign(size_t alignment, size_t size)
{
    pthread_mutex_lock(&lock);
    return noted(__libc_memalign(alignment, size), size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) || alignment & (alignment - 1) || !alignment)
        return EINVAL;
    void *got = memalign(alignment, size);
    if (!got)
        return ENOMEM;
    *block = got;
    return 0;
}

void *realloc(void *old, size_t size)
{
    pthread_mutex_lock(&lock);
    void *got = __libc_realloc(old, size);
    int error = errno;
    if (got || (old && size == 0))
        note(got, old, size);
    pthread_mutex_unlock(&lock);
    errno = error;
    return got;
}

void free(void *block)
{
    if (!block)
        return;
    int error = errno;
    pthread_mutex_lock(&lock);
    note(NULL, block, 0);
    __libc_free(block);
    pthread_mutex_unlock(&lock);
    errno = error;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }
static void in_child(void)
{
    file = -1;
    used = 0;
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void begin(void) { pthread_atfork(before_fork, in_parent, in_child); }

__attribute__((destructor)) static void end(void)
{
    pthread_mutex_lock(&lock);
    flush();
    ending = 1;
    pthread_mutex_unlock(&lock);
}
