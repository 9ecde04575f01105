/* The one request of the load generator, built once, and text printed as JSON. */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include "net.h"

static inline void read_file(struct buffer *into, const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file)
        die(name);
    for (size_t n = 1; n;) {
        reserve(into, 65536);
        n = fread(into->data + into->length, 1, 65536, file);
        into->length += n;
    }
    fclose(file);
    into->data[into->length] = 0;
}

static inline void append_text(struct buffer *buffer, const char *text) {
    append(buffer, text, strlen(text));
}

/* `headers_file` has whole lines, each with its CRLF; NULL: there are none. */
static inline void build_request(struct buffer *request, const char *body_file, const char *path, const char *host,
                                 const char *headers_file) {
    char length[64];
    struct buffer body = {0};
    read_file(&body, body_file);
    append_text(request, "POST ");
    append_text(request, path);
    append_text(request, " HTTP/1.1\r\nHost: ");
    append_text(request, host);
    append_text(request, "\r\nContent-Type: application/json\r\nAccept: */*\r\n");
    if (headers_file)
        read_file(request, headers_file);
    snprintf(length, sizeof length, "Content-Length: %zu\r\n\r\n", body.length);
    append_text(request, length);
    append(request, body.data, body.length);
    free(body.data);
}

static inline void print_escaped(const char *text) {
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 32 || (unsigned char)*text > 126)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

#endif
