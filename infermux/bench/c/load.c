/* A load generator: one thread, epoll, keep-alive connections, one fixed request, every response verified.
 *
 *   closed loop            each of --connections sends its next request when the last one has ended
 *   --rate R               open loop: request k is due at k/R seconds; latency counts from then, also while it had to
 *                          wait for a free connection, so a slow server cannot slow the clock it is measured by
 *   --mode whole|stream    what a right answer is: a whole JSON object, or events that end with [DONE], or with one
 *                          whose data begins as --last says (without spaces; several are divided by |)
 *
 *   --address IP --port N  where to connect; --host is what the Host header says
 *   --headers FILE         further lines of the head, each with its CRLF: a key does not stand on the command line
 *
 * Ends after --seconds or --requests, whichever comes first, lets what is under way finish, and prints one JSON object.
 * Before it comes a line {"good":N,"failed":N} twice a second. SIGINT and SIGTERM end it at once: what is under way then
 * was never asked.
 */
#include "net.h"
#include "histogram.h"
#include "request.h"
#include "response.h"

#define MAX_EVENTS 512
#define READ_SIZE 65536

enum kind { CONNECT, TIMEOUT, STATUS, CLOSED, FRAMING, INCOMPLETE, KINDS };
static const char *const kind_names[KINDS] = {"connect", "timeout", "status", "closed", "framing", "incomplete"};
enum state { IDLE, CONNECTING, BUSY };

struct conn {
    int fd, used, retried;
    enum state state;
    size_t sent;
    int64_t intended, first;
    struct response response;
    struct conn *next_idle;
    struct conn *before, *after; /* among the busy ones, oldest first: all have the same timeout */
    int64_t began;
};

static struct {
    const char *address, *host, *path, *body_file, *headers_file, *mode;
    int port, connections, min_events;
    double rate, seconds, timeout, stagger;
    long requests;
} options = {.address = "127.0.0.1", .host = "127.0.0.1", .path = "/v1/chat/completions", .mode = "whole", .port = 8080, .connections = 16,
             .seconds = 2, .timeout = 10, .requests = -1, .min_events = 1};

static struct buffer request;
static struct conn *conns, *idle, *oldest, *newest;
static struct histogram latency, first_token;
static struct { long good, errors[KINDS], reconnects, stale, busy, peak; } counts;
static uint64_t total_events, total_chunks, total_bytes, total_reads;
static int64_t started, last_end, stop_at;
static long issued, due_count, joined;
static int epoll_fd, streaming, bad_status;
static int64_t told_at, cpu_at_start;
static volatile sig_atomic_t stopped;
static char sample[512];

static void send_or_close(struct conn *conn, int64_t now);

/* ---- bookkeeping ---- */

static void unlink_busy(struct conn *conn) {
    *(conn->before ? &conn->before->after : &oldest) = conn->after;
    *(conn->after ? &conn->after->before : &newest) = conn->before;
    conn->before = conn->after = NULL;
    counts.busy--;
}

static void link_busy(struct conn *conn, int64_t now) {
    conn->began = now;
    conn->before = newest;
    conn->after = NULL;
    *(newest ? &newest->after : &oldest) = conn;
    newest = conn;
    if (++counts.busy > counts.peak)
        counts.peak = counts.busy;
}

static void make_idle(struct conn *conn) {
    conn->state = IDLE;
    conn->next_idle = idle;
    idle = conn;
}

static void disconnect(struct conn *conn) {
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->used = 0;
}

static void keep_sample(const struct conn *conn) {
    if (!sample[0] && conn->response.head.data)
        snprintf(sample, sizeof sample, "%s", conn->response.head.data);
}

/* ---- one request ---- */

static void finish(struct conn *conn, int64_t now) {
    unlink_busy(conn);
    last_end = now;
    total_events += conn->response.events;
    total_chunks += conn->response.chunks;
    total_bytes += conn->response.bytes;
    make_idle(conn);
}

static void fail(struct conn *conn, enum kind kind, int64_t now) {
    counts.errors[kind]++;
    if (kind == STATUS)
        bad_status = conn->response.status;
    keep_sample(conn);
    disconnect(conn);
    finish(conn, now);
}

static void succeed(struct conn *conn, int64_t now) {
    counts.good++;
    record(&latency, now - conn->intended);
    if (conn->first)
        record(&first_token, conn->first - conn->intended);
    if (!conn->response.keep_alive) {
        counts.reconnects++;
        disconnect(conn);
    }
    conn->used = 1;
    finish(conn, now);
}

static int is_right(const struct response *response) {
    if (!streaming)
        return response->last == '}';
    return response->done && response->events >= (uint64_t)options.min_events;
}

static void end_response(struct conn *conn, int64_t now) {
    if (conn->response.part == BROKEN)
        fail(conn, FRAMING, now);
    else if (conn->response.status != 200)
        fail(conn, STATUS, now);
    else if (!is_right(&conn->response))
        fail(conn, INCOMPLETE, now);
    else
        succeed(conn, now);
}

static void connect_now(struct conn *conn) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    inet_pton(AF_INET, options.address, &address.sin_addr);
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        die("socket");
    no_delay(conn->fd);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    conn->state = CONNECTING;
    if (connect(conn->fd, (struct sockaddr *)&address, sizeof address) == 0)
        conn->state = BUSY;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event); /* a refused connect shows as an event */
}

static void closed(struct conn *conn, int64_t now) {
    if (conn->response.part == UNTIL_CLOSE) {
        conn->response.part = COMPLETE;
        end_response(conn, now);
    } else if (conn->used && !conn->retried && conn->response.part == HEAD && !conn->response.head.length) {
        /* Closed while it was idle: no fault of the server. Once more on a fresh connection, as clients do. */
        counts.stale++;
        conn->retried = 1;
        disconnect(conn);
        conn->sent = 0;
        connect_now(conn);
        send_or_close(conn, now);
    } else {
        fail(conn, conn->state == CONNECTING ? CONNECT : CLOSED, now);
    }
}

static int send_request(struct conn *conn) {
    while (conn->sent < request.length) {
        ssize_t n = send(conn->fd, request.data + conn->sent, request.length - conn->sent, 0);
        if (n < 0)
            return errno == EAGAIN;
        conn->sent += (size_t)n;
    }
    return 1;
}

/* `hung_up`: the end is there already, and an edge tells of it only once. */
static void receive(struct conn *conn, int hung_up, int64_t now) {
    static char data[READ_SIZE];
    while (conn->state == BUSY) {
        ssize_t n = recv(conn->fd, data, sizeof data, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            closed(conn, now);
            return;
        }
        total_reads++;
        take(&conn->response, data, (size_t)n);
        if (!conn->first && conn->response.events)
            conn->first = now;
        if (conn->response.part >= COMPLETE)
            end_response(conn, now);
        else if ((size_t)n < sizeof data && !hung_up)
            return; /* edge-triggered: more bytes or the end bring another event */
    }
}

static void send_or_close(struct conn *conn, int64_t now) {
    if (conn->state == BUSY && !send_request(conn))
        closed(conn, now);
}

static void start(struct conn *conn, int64_t intended, int64_t now) {
    issued++;
    conn->intended = intended;
    conn->first = 0;
    conn->sent = 0;
    conn->retried = 0;
    reset_response(&conn->response);
    link_busy(conn, now);
    if (conn->fd < 0)
        connect_now(conn);
    else
        conn->state = BUSY;
    send_or_close(conn, now);
}

/* ---- the loop ---- */

static int may_start(int64_t intended) {
    return intended < stop_at && (options.requests < 0 || issued < options.requests);
}

/* Takes one idle connection out and sends on it. */
static void start_one(int64_t intended, int64_t now) {
    struct conn *conn = idle;
    idle = conn->next_idle;
    start(conn, intended, now);
}

static int64_t due_time(long k) {
    return started + (int64_t)((double)k / options.rate * 1e9);
}

static int64_t join_time(long k) {
    return started + (int64_t)(options.stagger * 1e9 * (double)k / options.connections);
}

/* Closed loop: connection k joins at its part of --stagger, then always goes on at once. */
static void start_closed(int64_t now) {
    while (joined < options.connections && join_time(joined) <= now)
        make_idle(&conns[joined++]);
    while (idle && may_start(now))
        start_one(now, now);
}

static void start_open(int64_t now) {
    while (idle && may_start(due_time(due_count)) && due_time(due_count) <= now)
        start_one(due_time(due_count++), now);
}

static void start_due(int64_t now) {
    if (options.rate > 0)
        start_open(now);
    else
        start_closed(now);
}

static int all_ended(int64_t now) {
    if (counts.busy)
        return 0;
    return options.rate > 0 ? !may_start(due_time(due_count)) : !may_start(now);
}

static void time_out(int64_t now) {
    while (oldest && oldest->began + (int64_t)(options.timeout * 1e9) <= now)
        fail(oldest, TIMEOUT, now);
}

static int64_t until_due(int64_t now) {
    int64_t due = now + SECOND / 10;
    if (options.rate > 0 && idle && may_start(due_time(due_count)) && due_time(due_count) < due)
        due = due_time(due_count);
    if (options.rate <= 0 && joined < options.connections && join_time(joined) < due)
        due = join_time(joined);
    return due < now ? 0 : due - now;
}

static void handle(struct conn *conn, uint32_t events, int64_t now) {
    if (conn->state == IDLE) {
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            disconnect(conn); /* closed by the server between requests */
        return;
    }
    if (conn->state == CONNECTING) {
        if (events & (EPOLLERR | EPOLLHUP)) {
            closed(conn, now);
            return;
        }
        conn->state = BUSY;
    }
    if ((events & EPOLLOUT) && !send_request(conn)) {
        closed(conn, now);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(conn, (events & EPOLLRDHUP) != 0, now);
}

static long all_bad(void) {
    long bad = 0;
    for (int i = 0; i < KINDS; i++)
        bad += counts.errors[i];
    return bad;
}

static void tell_progress(int64_t now) {
    if (now - told_at < SECOND / 2)
        return;
    told_at = now;
    printf("{\"good\":%ld,\"failed\":%ld}\n", counts.good, all_bad());
    fflush(stdout);
}

static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static void run(void) {
    struct epoll_event events[MAX_EVENTS];
    started = last_end = told_at = now_ns();
    stop_at = started + (int64_t)(options.seconds * 1e9);
    cpu_at_start = cpu_ns();
    while (!stopped) {
        int64_t now = now_ns();
        tell_progress(now);
        start_due(now);
        time_out(now);
        if (all_ended(now))
            return;
        int found = wait_events(epoll_fd, events, MAX_EVENTS, until_due(now));
        for (int i = 0; i < found; i++)
            handle(events[i].data.ptr, events[i].events, now_ns());
    }
}

/* ---- in and out ---- */

static void read_options(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        if (!strcmp(name, "--address")) options.address = value;
        else if (!strcmp(name, "--host")) options.host = value;
        else if (!strcmp(name, "--port")) options.port = atoi(value);
        else if (!strcmp(name, "--path")) options.path = value;
        else if (!strcmp(name, "--body")) options.body_file = value;
        else if (!strcmp(name, "--mode")) options.mode = value;
        else if (!strcmp(name, "--last")) last_event = value;
        else if (!strcmp(name, "--connections")) options.connections = atoi(value);
        else if (!strcmp(name, "--rate")) options.rate = atof(value);
        else if (!strcmp(name, "--seconds")) options.seconds = atof(value);
        else if (!strcmp(name, "--requests")) options.requests = atol(value);
        else if (!strcmp(name, "--timeout")) options.timeout = atof(value);
        else if (!strcmp(name, "--stagger")) options.stagger = atof(value);
        else if (!strcmp(name, "--min-events")) options.min_events = atoi(value);
        else if (!strcmp(name, "--headers")) options.headers_file = value;
        else { fprintf(stderr, "load: unknown option %s\n", name); exit(2); }
    }
    if (!options.body_file || options.connections < 1) {
        fprintf(stderr, "load: --body FILE and --connections of at least 1 are needed\n");
        exit(2);
    }
    streaming = !strcmp(options.mode, "stream");
}

static void report(void) {
    printf("{\"errors\":{");
    for (int i = 0; i < KINDS; i++)
        printf("%s\"%s\":%ld", i ? "," : "", kind_names[i], counts.errors[i]);
    printf("},\"requests\":%ld,\"good\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"events\":%lu,\"chunks\":%lu,\"reads\":%lu,"
           "\"bytes\":%lu,\"reconnects\":%ld,\"stale\":%ld,\"peak\":%ld,\"bad_status\":%d,\"cpu_ns\":%ld,\"stopped\":%s,",
           issued - counts.busy, counts.good, all_bad(), (double)(last_end - started) / 1e9, (unsigned long)total_events,
           (unsigned long)total_chunks, (unsigned long)total_reads, (unsigned long)total_bytes, counts.reconnects,
           counts.stale, counts.peak, bad_status, (long)(cpu_ns() - cpu_at_start), stopped ? "true" : "false");
    print_histogram("latency_us", &latency);
    putchar(',');
    print_histogram("first_token_us", &first_token);
    printf(",\"sample\":");
    print_escaped(sample);
    printf("}\n");
}

int main(int count, char **words) {
    read_options(count, words);
    prepare_process();
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    build_request(&request, options.body_file, options.path, options.host, options.headers_file);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)options.connections, sizeof *conns);
    if (!conns)
        die("memory");
    for (int i = 0; i < options.connections; i++)
        conns[i].fd = -1;
    if (options.rate > 0)
        for (; joined < options.connections; joined++)
            make_idle(&conns[joined]);
    run();
    report();
    return 0;
}
