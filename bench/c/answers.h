/* What the mock upstream says, prepared once at start: for each dialect one whole answer and one stream. */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include "net.h"

static struct {
    int port, tokens;
    const char *model;
} options = {0, 50, "bench-model"};

/* CHAT_USAGE: with usage asked for. */
enum dialect { CHAT, CHAT_USAGE, MESSAGES, CONVERSE, DIALECTS };

#define WORDS 8

/* `start` is the head with all up to the first token, `finish` all after the last; tokens come in turns. */
static struct script {
    struct buffer whole, start, token[WORDS], finish;
} scripts[DIALECTS];
static struct buffer models;

/* As they stand in JSON: words, a mark, a character outside of ASCII and, as about one token in ten has, an escape. */
static const char *const words[WORDS] = {" The", " quick", " brown", " fox", ",", " jumps", " caf\303\251", ".\\n"};

/* What providers add at random to hide the length of a token. */
static const char *const pads[WORDS] = {"aB3", "xYz12", "Q", "k9", "mNoPqR", "7", "Ab12Cd", "z0"};

static const char text_of_whole[] =
    "The quick brown fox jumps over the lazy dog, and since it has done so in every test since typewriters were tested, "
    "it does it here once more, for as long as this answer has to be about as long as a short answer is, which in most "
    "measurements that people publish comes to some five or six hundred bytes of JSON.";

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

static void add_stream_head(struct buffer *out, const char *content_type) {
    add_format(out, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncache-control: no-cache\r\n"
                    "transfer-encoding: chunked\r\n\r\n", content_type);
}

static void end_stream(struct buffer *out) {
    append(out, "0\r\n\r\n", 5);
}

/* ---- OpenAI's chat completions ---- */

static void add_event(struct buffer *out, const char *data) {
    add_format(out, "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
}

static void add_chunk(struct buffer *out, int usage, const char *delta, const char *reason, const char *pad) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"%s\","
             "\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]%s,\"obfuscation\":\"%s\"}",
             options.model, delta, reason, usage ? ",\"usage\":null" : "", pad);
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

static void prepare_chat(struct script *script, int usage) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":"
             "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,"
             "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":350,\"completion_tokens\":48,\"total_tokens\":398}}",
             options.model, text_of_whole);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "text/event-stream");
    add_chunk(&script->start, usage, "\"role\":\"assistant\",\"content\":\"\"", "null", "aBc");
    for (int i = 0; i < WORDS; i++) {
        snprintf(text, sizeof text, "\"content\":\"%s\"", words[i]);
        add_chunk(&script->token[i], usage, text, "null", pads[i]);
    }
    add_chunk(&script->finish, usage, "", "\"stop\"", "dEf");
    if (usage)
        add_usage_chunk(&script->finish);
    add_event(&script->finish, "[DONE]");
    end_stream(&script->finish);
}

/* ---- Anthropic's messages: https://platform.claude.com/docs/en/build-with-claude/streaming ---- */

static void add_named_event(struct buffer *out, const char *name, const char *fields) {
    add_format(out, "%zx\r\nevent: %s\ndata: {\"type\":\"%s\"%s}\n\n\r\n", 2 * strlen(name) + strlen(fields) + 27, name,
               name, fields);
}

static void prepare_messages(struct script *script) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[{\"type\":\"text\","
             "\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
             "\"usage\":{\"input_tokens\":350,\"output_tokens\":48}}",
             options.model, text_of_whole);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "text/event-stream; charset=utf-8");
    snprintf(text, sizeof text,
             ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[],"
             "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":350,\"output_tokens\":1}}",
             options.model);
    add_named_event(&script->start, "message_start", text);
    add_named_event(&script->start, "content_block_start",
                    ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
    add_named_event(&script->start, "ping", "");
    for (int i = 0; i < WORDS; i++) {
        snprintf(text, sizeof text, ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}%*s", words[i],
                 (int)strlen(pads[i]), "");
        add_named_event(&script->token[i], "content_block_delta", text);
    }
    add_named_event(&script->finish, "content_block_stop", ",\"index\":0");
    snprintf(text, sizeof text,
             ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":%d}",
             options.tokens);
    add_named_event(&script->finish, "message_delta", text);
    add_named_event(&script->finish, "message_stop", "");
    end_stream(&script->finish);
}

/* ---- Bedrock's Converse: https://smithy.io/2.0/aws/amazon-eventstream.html ---- */

static uint32_t crc32_of(const char *data, size_t length) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned char)data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void add_number(struct buffer *out, uint32_t value) {
    uint32_t bytes = htonl(value);
    append(out, (char *)&bytes, sizeof bytes);
}

static void add_header(struct buffer *out, const char *name, const char *value) {
    const char length = (char)strlen(name), kind_and_length[] = {7, 0, (char)strlen(value)};
    append(out, &length, 1);
    append(out, name, strlen(name));
    append(out, kind_and_length, sizeof kind_and_length);
    append(out, value, strlen(value));
}

/* One message of the event stream in one chunk of the body. */
static void add_message(struct buffer *out, const char *name, const char *payload) {
    struct buffer headers = {0}, message = {0};
    add_header(&headers, ":event-type", name);
    add_header(&headers, ":content-type", "application/json");
    add_header(&headers, ":message-type", "event");
    add_number(&message, (uint32_t)(headers.length + strlen(payload) + 16));
    add_number(&message, (uint32_t)headers.length);
    add_number(&message, crc32_of(message.data, message.length));
    append(&message, headers.data, headers.length);
    append(&message, payload, strlen(payload));
    add_number(&message, crc32_of(message.data, message.length));
    add_format(out, "%zx\r\n", message.length);
    append(out, message.data, message.length);
    append(out, "\r\n", 2);
    free(headers.data);
    free(message.data);
}

/* Real payloads are padded by `p`, so that their lengths tell nothing of the text. */
static void prepare_converse(struct script *script) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"metrics\":{\"latencyMs\":900},\"output\":{\"message\":{\"content\":[{\"text\":\"%s\"}],\"role\":\"assistant\"}},"
             "\"stopReason\":\"end_turn\",\"usage\":{\"inputTokens\":350,\"outputTokens\":48,\"totalTokens\":398}}",
             text_of_whole);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "application/vnd.amazon.eventstream");
    add_message(&script->start, "messageStart", "{\"p\":\"abcdefghijklm\",\"role\":\"assistant\"}");
    for (int i = 0; i < WORDS; i++) {
        snprintf(text, sizeof text, "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"%s\"},\"p\":\"%s\"}", words[i], pads[i]);
        add_message(&script->token[i], "contentBlockDelta", text);
    }
    add_message(&script->finish, "contentBlockStop", "{\"contentBlockIndex\":0,\"p\":\"abcdefghijklmnop\"}");
    add_message(&script->finish, "messageStop", "{\"p\":\"abcdefgh\",\"stopReason\":\"end_turn\"}");
    snprintf(text, sizeof text,
             "{\"metrics\":{\"latencyMs\":900},\"p\":\"abcdef\",\"usage\":{\"inputTokens\":350,\"outputTokens\":%d,"
             "\"totalTokens\":%d}}",
             options.tokens, options.tokens + 350);
    add_message(&script->finish, "metadata", text);
    end_stream(&script->finish);
}

static void prepare_answers(void) {
    char text[2048];
    prepare_chat(&scripts[CHAT], 0);
    prepare_chat(&scripts[CHAT_USAGE], 1);
    prepare_messages(&scripts[MESSAGES]);
    prepare_converse(&scripts[CONVERSE]);
    for (int i = 0; i < DIALECTS; i++) /* servers make the head when they have a token, and send both at once */
        append(&scripts[i].start, scripts[i].token[1].data, scripts[i].token[1].length);
    snprintf(text, sizeof text,
             "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}",
             options.model);
    add_json_response(&models, "200 OK", text);
}

#endif
