/* What the mock upstream and the load generator share: time, epoll with nanoseconds, growing buffers, options. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define FOREVER INT64_MAX

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* epoll_wait with the timeout in nanoseconds (FOREVER: none): whole milliseconds would bunch events together. */
static inline int wait_events(int epoll, struct epoll_event *events, int count, int64_t timeout) {
    int found = -1;
    errno = ENOSYS;
#ifdef SYS_epoll_pwait2
    struct timespec t = {timeout / SECOND, timeout % SECOND};
    found = (int)syscall(SYS_epoll_pwait2, epoll, events, count, timeout == FOREVER ? NULL : &t, NULL, 0);
#endif
    if (found < 0 && errno == ENOSYS)
        found = epoll_wait(epoll, events, count, timeout == FOREVER ? -1 : (int)((timeout + MS - 1) / MS));
    if (found < 0 && errno != EINTR)
        die("epoll");
    return found < 0 ? 0 : found;
}

struct buffer {
    char *data;
    size_t length, capacity;
};

/* Room for `more` bytes and a terminating zero behind what is there. */
static inline void reserve(struct buffer *buffer, size_t more) {
    size_t wanted = buffer->length + more + 1;
    if (wanted <= buffer->capacity)
        return;
    while (buffer->capacity < wanted)
        buffer->capacity = buffer->capacity ? buffer->capacity * 2 : 1024;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (!buffer->data)
        die("memory");
}

static inline void append(struct buffer *buffer, const char *data, size_t length) {
    reserve(buffer, length);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    buffer->data[buffer->length] = 0;
}

static inline void drop_front(struct buffer *buffer, size_t length) {
    buffer->length -= length;
    memmove(buffer->data, buffer->data + length, buffer->length);
}

/* The value of a header in a zero-terminated head, or NULL. `name` is given as "\nName:". */
static inline const char *header_value(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " \t") : NULL;
}

/* Dies with its parent and without a signal on a closed socket; takes as many descriptors as it may. */
static inline void prepare_process(void) {
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

#endif
