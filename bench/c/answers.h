/* What the mock upstream says, prepared once at start. Index 1 of a pair: with usage asked for. */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include "net.h"

static struct {
    int port, tokens;
    const char *model;
} options = {0, 50, "bench-model"};

static struct buffer whole, models, start[2], token[2], finish[2];

static void add_format(struct buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_format(struct buffer *out, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append(out, text, (size_t)length);
}

static void add_json_response(struct buffer *out, const char *status, const char *body) {
    add_format(out, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", status,
               strlen(body), body);
}

static void add_event(struct buffer *out, const char *data) {
    add_format(out, "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
}

static void add_chunk(struct buffer *out, int usage, const char *delta, const char *reason) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"%s\","
             "\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]%s}",
             options.model, delta, reason, usage ? ",\"usage\":null" : "");
    add_event(out, text);
}

static void add_usage_chunk(struct buffer *out) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"%s\","
             "\"choices\":[],\"usage\":{\"prompt_tokens\":350,\"completion_tokens\":%d,\"total_tokens\":%d}}",
             options.model, options.tokens, options.tokens + 350);
    add_event(out, text);
}

static void prepare_stream(int usage) {
    add_format(&start[usage], "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                              "transfer-encoding: chunked\r\n\r\n");
    add_chunk(&start[usage], usage, "\"role\":\"assistant\",\"content\":\"\"", "null");
    add_chunk(&token[usage], usage, "\"content\":\" token\"", "null");
    add_chunk(&finish[usage], usage, "", "\"stop\"");
    if (usage)
        add_usage_chunk(&finish[usage]);
    add_event(&finish[usage], "[DONE]");
    append(&finish[usage], "0\r\n\r\n", 5);
}

static void prepare_whole(void) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":"
             "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the lazy dog, "
             "and since it has done so in every test since typewriters were tested, it does it here once more, "
             "for as long as this answer has to be about as long as a short answer is, which in most measurements that people publish comes to some five or six hundred bytes of JSON.\",\"refusal\":null},\"logprobs\":null,"
             "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":350,\"completion_tokens\":48,\"total_tokens\":398}}",
             options.model);
    add_json_response(&whole, "200 OK", text);
    snprintf(text, sizeof text,
             "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}",
             options.model);
    add_json_response(&models, "200 OK", text);
}

#endif
