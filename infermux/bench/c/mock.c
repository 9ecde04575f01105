/* A mock upstream of three dialects: one thread, epoll, HTTP/1.1 keep-alive, everything it says prepared at start.
 *
 *   POST .../chat/completions   one completion, or with "stream":true chunks at an interval
 *   POST .../messages           the same in the events of Anthropic's messages
 *   POST .../converse           one answer of Bedrock's;  .../converse-stream  its event stream
 *   POST .../embeddings         one vector of 1536 numbers
 *   GET  .../models             one model;  GET /health  the same, for routers that ask a server of models how it is
 *   GET  /stats                 counters;  POST /stats/reset  sets them to zero
 *
 * A stream is: after --first-ms the head, what comes before the text and the first token, as servers of models send them
 * (they have nothing to say before the first token is there); then the rest of the --tokens events of text at least
 * --interval-ms apart, and in one write all that ends it. Chat's chunks have "usage":null, and its end a usage chunk, when
 * include_usage was asked.
 * A request that insists on a call of a tool gets one of look_up_0, whole or its arguments token by token.
 * Of what comes to paths that begin with /faulty each --fail-every N-th is answered with --fail-status S (0: closed
 * without a word), and with --retry-after seconds when they are given.
 * Events are never sent late in bunches: a late one moves those after it, so that no gateway is helped by merging.
 */
#include "net.h"
#include "answers.h"

#define MAX_EVENTS 512

enum timer { FIRST, NEXT, WHOLE, TIMERS };

struct conn {
    int fd, wants_write;
    struct buffer in, out;
    int busy, position;
    const struct script *script;
    int64_t due;
    struct conn *before, *after; /* neighbours in the list of its timer */
    enum timer timer;
    int timed;
};

struct list {
    struct conn *head, *tail;
    int64_t delay;
};

static struct list timers[TIMERS];
static struct { long connections, peak_connections, requests, streams, open, peak, aborted, bad, failed; } stats;
static int epoll_fd;

/* ---- timers: one list per delay, so each is sorted by itself ---- */

static void cancel_timer(struct conn *conn) {
    if (!conn->timed)
        return;
    struct list *list = &timers[conn->timer];
    *(conn->before ? &conn->before->after : &list->head) = conn->after;
    *(conn->after ? &conn->after->before : &list->tail) = conn->before;
    conn->before = conn->after = NULL;
    conn->timed = 0;
}

static void set_timer(struct conn *conn, enum timer timer, int64_t now) {
    struct list *list = &timers[timer];
    conn->timer = timer;
    conn->timed = 1;
    conn->due = now + list->delay;
    conn->before = list->tail;
    *(list->tail ? &list->tail->after : &list->head) = conn;
    list->tail = conn;
}

static int64_t until_next_timer(void) {
    int64_t due = FOREVER;
    for (int i = 0; i < TIMERS; i++)
        if (timers[i].head && timers[i].head->due < due)
            due = timers[i].head->due;
    if (due == FOREVER)
        return FOREVER;
    int64_t left = due - now_ns();
    return left < 0 ? 0 : left;
}

/* ---- connections ---- */

static void close_conn(struct conn *conn) {
    cancel_timer(conn);
    if (conn->busy) {
        stats.aborted++;
        stats.open--;
    }
    stats.connections--;
    close(conn->fd);
    free(conn->in.data);
    free(conn->out.data);
    free(conn);
}

static void watch(struct conn *conn, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (conn->wants_write ? EPOLLOUT : 0u), .data.ptr = conn};
    if (epoll_ctl(epoll_fd, operation, conn->fd, &event) < 0)
        die("epoll_ctl");
}

static void set_wants_write(struct conn *conn, int wants) {
    if (conn->wants_write == wants)
        return;
    conn->wants_write = wants;
    watch(conn, EPOLL_CTL_MOD);
}

/* Sends now what goes, keeps the rest. False: the peer is gone. */
static int say(struct conn *conn, const struct buffer *what) {
    size_t sent = 0;
    if (!conn->out.length) {
        ssize_t n = send(conn->fd, what->data, what->length, 0);
        if (n < 0 && errno != EAGAIN)
            return 0;
        sent = n < 0 ? 0 : (size_t)n;
    }
    if (sent < what->length) {
        append(&conn->out, what->data + sent, what->length - sent);
        set_wants_write(conn, 1);
    }
    return 1;
}

static int flush(struct conn *conn) {
    ssize_t n = send(conn->fd, conn->out.data, conn->out.length, 0);
    if (n < 0)
        return errno == EAGAIN;
    drop_front(&conn->out, (size_t)n);
    if (!conn->out.length)
        set_wants_write(conn, 0);
    return 1;
}

static void begin(struct conn *conn) {
    conn->busy = 1;
    stats.requests++;
    if (++stats.open > stats.peak)
        stats.peak = stats.open;
}

static int end(struct conn *conn, const struct buffer *last) {
    conn->busy = 0;
    stats.open--;
    return say(conn, last);
}

/* ---- requests ---- */

static int has_true(const char *body, const char *key) {
    const char *at = strstr(body, key);
    if (!at)
        return 0;
    at += strlen(key);
    at += strspn(at, " \t\r\n:");
    return strncmp(at, "true", 4) == 0;
}

/* Whether a call of a tool is insisted on, as each dialect says that: then it is what the answer is. */
static int wants_call(const char *body, enum dialect dialect) {
    const char *key = dialect == CONVERSE ? "\"toolChoice\"" : "\"tool_choice\"", *at = strstr(body, key);
    if (!at)
        return 0;
    at += strlen(key);
    at += strspn(at, " \t\r\n:");
    return strncmp(at, "\"auto\"", 6) && strncmp(at, "\"none\"", 6);
}

static int start_answer(struct conn *conn, enum dialect dialect, const char *body, int streams) {
    int64_t now = now_ns();
    begin(conn);
    conn->script = &scripts[wants_call(body, dialect)][dialect];
    if (streams) {
        stats.streams++;
        conn->position = 0;
        set_timer(conn, FIRST, now);
        return 1;
    }
    if (timers[WHOLE].delay) {
        set_timer(conn, WHOLE, now);
        return 1;
    }
    return end(conn, &conn->script->whole);
}

static int say_stats(struct conn *conn) {
    char text[512];
    struct buffer out = {0};
    snprintf(text, sizeof text,
             "{\"connections\":%ld,\"peak_connections\":%ld,\"requests\":%ld,\"streams\":%ld,\"open\":%ld,\"peak\":%ld,"
             "\"aborted\":%ld,\"bad\":%ld,\"failed\":%ld}",
             stats.connections, stats.peak_connections, stats.requests, stats.streams, stats.open, stats.peak,
             stats.aborted, stats.bad, stats.failed);
    add_json_response(&out, "200 OK", text);
    int alive = say(conn, &out);
    free(out.data);
    return alive;
}

static void reset_stats(void) {
    stats.requests = stats.streams = stats.aborted = stats.bad = stats.failed = 0;
    stats.peak = stats.open;
    stats.peak_connections = stats.connections;
}

static int refuse(struct conn *conn, const char *status) {
    struct buffer out = {0};
    stats.bad++;
    add_json_response(&out, status, "{\"error\":{\"message\":\"the mock does not know this\",\"type\":\"mock\"}}");
    int alive = say(conn, &out);
    free(out.data);
    return alive;
}

static int fails(const char *head) {
    static long seen;
    return options.fail_every && !strncmp(head, "POST /faulty", 12) && ++seen % options.fail_every == 0;
}

static int answer(struct conn *conn, const char *head, const char *body) {
    size_t line = strcspn(head, "\r\n");
    if (fails(head)) {
        stats.failed++;
        return options.fail_status && say(conn, &failure);
    }
    if (!strncmp(head, "POST ", 5) && memmem(head, line, "/chat/completions ", 18))
        return start_answer(conn, has_true(body, "\"include_usage\"") ? CHAT_USAGE : CHAT, body,
                            has_true(body, "\"stream\""));
    if (!strncmp(head, "POST ", 5) && memmem(head, line, "/messages ", 10))
        return start_answer(conn, MESSAGES, body, has_true(body, "\"stream\""));
    if (!strncmp(head, "POST ", 5) && memmem(head, line, "/converse", 9))
        return start_answer(conn, CONVERSE, body, memmem(head, line, "/converse-stream ", 17) != NULL);
    if (!strncmp(head, "POST ", 5) && memmem(head, line, "/embeddings ", 12))
        return start_answer(conn, EMBEDDINGS, body, 0);
    if (!strncmp(head, "GET ", 4) && (memmem(head, line, "/models", 7) || memmem(head, line, "/health ", 8)))
        return say(conn, &models);
    if (!strncmp(head, "GET /stats ", 11))
        return say_stats(conn);
    if (!strncmp(head, "POST /stats/reset ", 18)) {
        reset_stats();
        return say_stats(conn);
    }
    return refuse(conn, "404 Not Found");
}

/* Answers the request at the front of the buffer once it is whole. False: close the connection. */
static int take_request(struct conn *conn) {
    char *data = conn->in.data, *blank = conn->in.length ? strstr(data, "\r\n\r\n") : NULL;
    if (!blank)
        return conn->in.length < 65536;
    size_t head = (size_t)(blank - data) + 4;
    blank[2] = 0; /* ends the head for the look-ups; the body starts two bytes later */
    const char *length = header_value(data, "\nContent-Length:");
    if (header_value(data, "\nTransfer-Encoding:")) {
        refuse(conn, "411 Length Required");
        return 0;
    }
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    blank[2] = '\r';
    if (conn->in.length < head + body)
        return 1;
    char behind = data[head + body];
    data[head + body] = 0;
    int alive = answer(conn, data, data + head);
    data[head + body] = behind;
    drop_front(&conn->in, head + body);
    return alive;
}

static int receive(struct conn *conn) {
    reserve(&conn->in, 16384);
    ssize_t n = recv(conn->fd, conn->in.data + conn->in.length, 16384, 0);
    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return 0;
    conn->in.length += (size_t)n;
    conn->in.data[conn->in.length] = 0;
    return conn->busy || take_request(conn);
}

/* ---- due events ---- */

static int advance(struct conn *conn, int64_t now) {
    enum timer timer = conn->timer;
    cancel_timer(conn);
    if (timer == WHOLE)
        return end(conn, &conn->script->whole);
    if (conn->out.length) { /* the reader is behind: wait, as a provider would */
        set_timer(conn, NEXT, now);
        return 1;
    }
    if (conn->position > options.tokens)
        return end(conn, &conn->script->finish) && (!conn->in.length || take_request(conn));
    const struct script *script = conn->script;
    const struct buffer *what = conn->position ? &script->token[conn->position % WORDS] : &script->start;
    conn->position += conn->position ? 1 : 2; /* the first token is part of the start */
    set_timer(conn, NEXT, now);
    return say(conn, what);
}

static void run_timers(void) {
    int64_t now = now_ns();
    for (int i = 0; i < TIMERS; i++)
        while (timers[i].head && timers[i].head->due <= now) {
            struct conn *conn = timers[i].head;
            if (!advance(conn, now))
                close_conn(conn);
            if (i == NEXT && !timers[i].delay)
                break; /* without a delay the same one would be due for ever in this loop */
        }
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *conn = calloc(1, sizeof *conn);
        if (!conn)
            die("memory");
        conn->fd = fd;
        no_delay(fd);
        watch(conn, EPOLL_CTL_ADD);
        if (++stats.connections > stats.peak_connections)
            stats.peak_connections = stats.connections;
    }
}

static void serve(struct conn *conn, uint32_t events) {
    int alive = 1;
    if (events & EPOLLOUT)
        alive = flush(conn);
    if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        alive = receive(conn);
    if (!alive)
        close_conn(conn);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void read_options(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--port")) options.port = atoi(value);
        else if (!strcmp(name, "--tokens")) options.tokens = atoi(value);
        else if (!strcmp(name, "--interval-ms")) timers[NEXT].delay = (int64_t)(atof(value) * MS);
        else if (!strcmp(name, "--first-ms")) timers[FIRST].delay = (int64_t)(atof(value) * MS);
        else if (!strcmp(name, "--whole-ms")) timers[WHOLE].delay = (int64_t)(atof(value) * MS);
        else if (!strcmp(name, "--model")) options.model = value;
        else if (!strcmp(name, "--fail-every")) options.fail_every = atol(value);
        else if (!strcmp(name, "--fail-status")) options.fail_status = atoi(value);
        else if (!strcmp(name, "--retry-after")) options.retry_after = atoi(value);
        else { fprintf(stderr, "mock: unknown option %s\n", name); exit(2); }
    }
}

int main(int count, char **words) {
    struct epoll_event events[MAX_EVENTS];
    timers[NEXT].delay = 20 * MS;
    read_options(count, words);
    prepare_process();
    prepare_answers();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(options.port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = wait_events(epoll_fd, events, MAX_EVENTS, until_next_timer());
        for (int i = 0; i < found; i++)
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                accept_all(listener);
        run_timers();
    }
}
