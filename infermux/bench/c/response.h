/* An incremental reader of one HTTP/1.1 response whose body is either anything or a stream of server-sent events. */
#ifndef BENCH_RESPONSE_H
#define BENCH_RESPONSE_H

#include "net.h"

enum part { HEAD, SIZED, UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS, COMPLETE, BROKEN };

#define TAIL 64

struct response {
    enum part part;
    struct buffer head;
    int status, keep_alive;
    uint64_t left;            /* of the sized body or of the chunk */
    uint64_t bytes, events, chunks;
    char line[TAIL];          /* how the current line of the body begins, without spaces: JSON may have some */
    int line_length, done;    /* done: the last event began as `last_event` says */
    char last;                /* last byte of the body that is not white space */
    char size_text[20];
    int size_length;
};

/* How the data of the event that ends a stream begins, without spaces; several such beginnings are divided by |. */
static const char *last_event = "[DONE]";

static inline void reset_response(struct response *response) {
    struct buffer head = response->head;
    head.length = 0;
    memset(response, 0, sizeof *response);
    response->head = head;
}

static inline int ends_stream(const char *data, size_t length) {
    for (const char *one = last_event;; one += strcspn(one, "|") + 1) {
        size_t wanted = strcspn(one, "|");
        if (length >= wanted && !memcmp(data, one, wanted))
            return 1;
        if (!one[wanted])
            return 0;
    }
}

/* Counts lines that begin with "data:" and notes whether the last of them was the one that ends a stream. */
static inline void take_body(struct response *response, const char *data, size_t length) {
    response->bytes += length;
    for (size_t i = 0; i < length;) {
        if (data[i] == '\n') {
            if (response->line_length >= 5 && !memcmp(response->line, "data:", 5)) {
                response->events++;
                response->done = ends_stream(response->line + 5, (size_t)response->line_length - 5);
            }
            response->line_length = 0;
            i++;
            continue;
        }
        const char *newline = memchr(data + i, '\n', length - i);
        size_t run = newline ? (size_t)(newline - data) - i : length - i;
        for (size_t j = 0; j < run && response->line_length < TAIL; j++)
            if (data[i + j] != ' ')
                response->line[response->line_length++] = data[i + j];
        i += run;
        if (data[i - 1] != '\r' && data[i - 1] != ' ')
            response->last = data[i - 1];
    }
}

static inline void read_head(struct response *response) {
    const char *head = response->head.data;
    const char *length = header_value(head, "\nContent-Length:");
    const char *coding = header_value(head, "\nTransfer-Encoding:");
    const char *connection = header_value(head, "\nConnection:");
    int minor = 0;
    if (sscanf(head, "HTTP/1.%d %d", &minor, &response->status) != 2) {
        response->part = BROKEN;
        return;
    }
    response->keep_alive = minor == 1 && !(connection && !strncasecmp(connection, "close", 5));
    response->part = coding && !strncasecmp(coding, "chunked", 7) ? CHUNK_SIZE : length ? SIZED : UNTIL_CLOSE;
    response->left = length ? strtoull(length, NULL, 10) : 0;
    if (response->part == UNTIL_CLOSE)
        response->keep_alive = 0;
    if (response->part == SIZED && !response->left)
        response->part = COMPLETE;
}

/* The bytes of `data` that belonged to the head. */
static inline size_t take_head(struct response *response, const char *data, size_t length) {
    size_t before = response->head.length;
    append(&response->head, data, length);
    const char *blank = strstr(response->head.data, "\r\n\r\n");
    if (!blank) {
        if (response->head.length > 65536)
            response->part = BROKEN;
        return length;
    }
    size_t end = (size_t)(blank - response->head.data) + 4;
    response->head.length = end;
    response->head.data[end] = 0;
    read_head(response);
    return end - before;
}

static inline size_t take_sized(struct response *response, const char *data, size_t length, enum part next) {
    size_t taken = length < response->left ? length : (size_t)response->left;
    take_body(response, data, taken);
    response->left -= taken;
    if (!response->left)
        response->part = next;
    return taken;
}

/* One byte of the line that holds the size of a chunk, of the line behind a chunk, or of the trailers. */
static inline void take_framing(struct response *response, char byte) {
    if (byte != '\n') {
        if (byte != '\r' && response->size_length < (int)sizeof response->size_text - 1)
            response->size_text[response->size_length++] = byte;
        return;
    }
    response->size_text[response->size_length] = 0;
    int empty = response->size_length == 0;
    response->size_length = 0;
    if (response->part == CHUNK_END)
        response->part = empty ? CHUNK_SIZE : BROKEN;
    else if (response->part == TRAILERS)
        response->part = empty ? COMPLETE : TRAILERS;
    else if (strspn(response->size_text, "0123456789abcdefABCDEF") == 0)
        response->part = BROKEN;
    else {
        response->left = strtoull(response->size_text, NULL, 16);
        response->chunks += response->left > 0;
        response->part = response->left ? CHUNK_DATA : TRAILERS;
    }
}

/* Reads on; afterwards `part` says where the response stands. Bytes behind its end are a breach of framing. */
static inline void take(struct response *response, const char *data, size_t length) {
    size_t at = 0;
    while (at < length && response->part != BROKEN) {
        switch (response->part) {
        case HEAD: at += take_head(response, data + at, length - at); break;
        case SIZED: at += take_sized(response, data + at, length - at, COMPLETE); break;
        case CHUNK_DATA: at += take_sized(response, data + at, length - at, CHUNK_END); break;
        case UNTIL_CLOSE: take_body(response, data + at, length - at); at = length; break;
        case COMPLETE: response->part = BROKEN; break;
        default: take_framing(response, data[at++]);
        }
    }
}

#endif
