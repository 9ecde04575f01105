/* The one request of the load generator, built once, and text printed as JSON. */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include "net.h"

static inline void build_request(struct buffer *request, const char *body_file, const char *path, const char *host,
                                 int port, const char *headers) {
    static char head[8192];
    struct buffer body = {0};
    FILE *file = fopen(body_file, "rb");
    if (!file)
        die(body_file);
    for (size_t n = 1; n;) {
        reserve(&body, 65536);
        n = fread(body.data + body.length, 1, 65536, file);
        body.length += n;
    }
    fclose(file);
    int length = snprintf(head, sizeof head,
                          "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: */*\r\n%s"
                          "Content-Length: %zu\r\n\r\n",
                          path, host, port, headers ? headers : "",
                          body.length);
    append(request, head, (size_t)length);
    append(request, body.data, body.length);
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
