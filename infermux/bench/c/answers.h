/* What the mock upstream says, prepared once at start: for each dialect one whole answer and one stream, and the same as
 * the call of a tool. */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include "net.h"

static struct {
    int port, tokens, fail_status, retry_after;
    long fail_every;
    const char *model;
} options = {.tokens = 50, .model = "bench-model"};

/* CHAT_USAGE: with usage asked for. */
enum dialect { CHAT, CHAT_USAGE, MESSAGES, CONVERSE, EMBEDDINGS, DIALECTS };

#define WORDS 8

/* `start` is the head with the events up to the first token, `finish` all after the last; tokens come in turns. */
static struct script {
    struct buffer whole, start, token[WORDS], finish;
} scripts[2][DIALECTS]; /* the second ones call a tool */
static struct buffer models, failure;

/* As they stand in JSON: words, a mark, a character outside of ASCII and, as about one token in ten has, an escape. */
static const char *const words[WORDS] = {" The", " quick", " brown", " fox", ",", " jumps", " caf\303\251", ".\\n"};

/* The same in a text of JSON in JSON, as the arguments of a call are. */
static const char *const words_of_call[WORDS] = {" The", " quick", " brown", " fox", ",", " jumps", " caf\303\251",
                                                 ".\\\\n"};

#define TOOL "look_up_0" /* as infermux/bench/callers.py names the first of its tools */

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
    add_format(out, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", status,
               strlen(body));
    append(out, body, strlen(body));
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

static void add_arguments(struct buffer *out, int usage, const char *text, const char *pad) {
    char delta[512];
    snprintf(delta, sizeof delta, "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"%s\"}}]", text);
    add_chunk(out, usage, delta, "null", pad);
}

static void prepare_chat_call(struct script *script, int usage) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":"
             "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"tool_calls\":[{\"id\":"
             "\"call_bench\",\"type\":\"function\",\"function\":{\"name\":\"" TOOL "\",\"arguments\":"
             "\"{\\\"path\\\":\\\"%s\\\"}\"}}]},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],"
             "\"usage\":{\"prompt_tokens\":350,\"completion_tokens\":48,\"total_tokens\":398}}",
             options.model, text_of_whole);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "text/event-stream");
    add_chunk(&script->start, usage,
              "\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"call_bench\",\"type\":"
              "\"function\",\"function\":{\"name\":\"" TOOL "\",\"arguments\":\"\"}}]", "null", "aBc");
    add_arguments(&script->start, usage, "{\\\"path\\\":\\\"", "Gh1");
    for (int i = 0; i < WORDS; i++)
        add_arguments(&script->token[i], usage, words_of_call[i], pads[i]);
    add_arguments(&script->finish, usage, "\\\"}", "jK");
    add_chunk(&script->finish, usage, "", "\"tool_calls\"", "dEf");
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

/* `block` and `reason` of the whole answer; `opening` is the block as a stream begins it. */
static void start_messages(struct script *script, const char *block, const char *reason, const char *opening) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[%s],"
             "\"stop_reason\":\"%s\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":350,\"output_tokens\":48}}",
             options.model, block, reason);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "text/event-stream; charset=utf-8");
    snprintf(text, sizeof text,
             ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[],"
             "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":350,\"output_tokens\":1}}",
             options.model);
    add_named_event(&script->start, "message_start", text);
    snprintf(text, sizeof text, ",\"index\":0,\"content_block\":%s", opening);
    add_named_event(&script->start, "content_block_start", text);
    add_named_event(&script->start, "ping", "");
}

static void add_delta(struct buffer *out, const char *type, const char *key, const char *value, const char *pad) {
    char text[512];
    snprintf(text, sizeof text, ",\"index\":0,\"delta\":{\"type\":\"%s\",\"%s\":\"%s\"}%*s", type, key, value,
             (int)strlen(pad), "");
    add_named_event(out, "content_block_delta", text);
}

static void finish_messages(struct buffer *out, const char *reason) {
    char text[512];
    add_named_event(out, "content_block_stop", ",\"index\":0");
    snprintf(text, sizeof text,
             ",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":%d}", reason,
             options.tokens);
    add_named_event(out, "message_delta", text);
    add_named_event(out, "message_stop", "");
    end_stream(out);
}

static void prepare_messages(struct script *script) {
    char block[1024];
    snprintf(block, sizeof block, "{\"type\":\"text\",\"text\":\"%s\"}", text_of_whole);
    start_messages(script, block, "end_turn", "{\"type\":\"text\",\"text\":\"\"}");
    for (int i = 0; i < WORDS; i++)
        add_delta(&script->token[i], "text_delta", "text", words[i], pads[i]);
    finish_messages(&script->finish, "end_turn");
}

static void prepare_messages_call(struct script *script) {
    const char *begun = "{\"type\":\"tool_use\",\"id\":\"toolu_bench\",\"name\":\"" TOOL "\",\"input\":{";
    char block[1024], opening[512];
    snprintf(block, sizeof block, "%s\"path\":\"%s\"}}", begun, text_of_whole);
    snprintf(opening, sizeof opening, "%s}}", begun);
    start_messages(script, block, "tool_use", opening);
    add_delta(&script->start, "input_json_delta", "partial_json", "{\\\"path\\\":\\\"", "");
    for (int i = 0; i < WORDS; i++)
        add_delta(&script->token[i], "input_json_delta", "partial_json", words_of_call[i], pads[i]);
    add_delta(&script->finish, "input_json_delta", "partial_json", "\\\"}", "");
    finish_messages(&script->finish, "tool_use");
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
static void start_converse(struct script *script, const char *block, const char *reason) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"metrics\":{\"latencyMs\":900},\"output\":{\"message\":{\"content\":[%s],\"role\":\"assistant\"}},"
             "\"stopReason\":\"%s\",\"usage\":{\"inputTokens\":350,\"outputTokens\":48,\"totalTokens\":398}}",
             block, reason);
    add_json_response(&script->whole, "200 OK", text);
    add_stream_head(&script->start, "application/vnd.amazon.eventstream");
    add_message(&script->start, "messageStart", "{\"p\":\"abcdefghijklm\",\"role\":\"assistant\"}");
}

static void finish_converse(struct buffer *out, const char *reason) {
    char text[512];
    add_message(out, "contentBlockStop", "{\"contentBlockIndex\":0,\"p\":\"abcdefghijklmnop\"}");
    snprintf(text, sizeof text, "{\"p\":\"abcdefgh\",\"stopReason\":\"%s\"}", reason);
    add_message(out, "messageStop", text);
    snprintf(text, sizeof text,
             "{\"metrics\":{\"latencyMs\":900},\"p\":\"abcdef\",\"usage\":{\"inputTokens\":350,\"outputTokens\":%d,"
             "\"totalTokens\":%d}}",
             options.tokens, options.tokens + 350);
    add_message(out, "metadata", text);
    end_stream(out);
}

static void prepare_converse(struct script *script) {
    char text[1024];
    snprintf(text, sizeof text, "{\"text\":\"%s\"}", text_of_whole);
    start_converse(script, text, "end_turn");
    for (int i = 0; i < WORDS; i++) {
        snprintf(text, sizeof text, "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"%s\"},\"p\":\"%s\"}", words[i],
                 pads[i]);
        add_message(&script->token[i], "contentBlockDelta", text);
    }
    finish_converse(&script->finish, "end_turn");
}

static void add_input(struct buffer *out, const char *input, const char *pad) {
    char text[512];
    snprintf(text, sizeof text, "{\"contentBlockIndex\":0,\"delta\":{\"toolUse\":{\"input\":\"%s\"}},\"p\":\"%s\"}", input,
             pad);
    add_message(out, "contentBlockDelta", text);
}

static void prepare_converse_call(struct script *script) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"toolUse\":{\"input\":{\"path\":\"%s\"},\"name\":\"" TOOL "\",\"toolUseId\":\"tooluse_bench\"}}", text_of_whole);
    start_converse(script, text, "tool_use");
    add_message(&script->start, "contentBlockStart",
                "{\"contentBlockIndex\":0,\"p\":\"abcde\",\"start\":{\"toolUse\":{\"name\":\"" TOOL "\",\"toolUseId\":"
                "\"tooluse_bench\"}}}");
    add_input(&script->start, "{\\\"path\\\":\\\"", "Gh1");
    for (int i = 0; i < WORDS; i++)
        add_input(&script->token[i], words_of_call[i], pads[i]);
    add_input(&script->finish, "\\\"}", "jK");
    finish_converse(&script->finish, "tool_use");
}

/* ---- embeddings, as long as those of a usual model ---- */

static void prepare_embeddings(struct script *script) {
    struct buffer body = {0};
    add_format(&body, "{\"object\":\"list\",\"model\":\"%s\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[",
               options.model);
    for (int i = 0; i < 1536; i++)
        add_format(&body, "%s%.8f", i ? "," : "", ((i * 7919) % 2003 - 1001) / 40000.0);
    add_format(&body, "]}],\"usage\":{\"prompt_tokens\":350,\"total_tokens\":350}}");
    add_json_response(&script->whole, "200 OK", body.data);
    free(body.data);
}

static void prepare_failure(void) {
    const char *body = "{\"error\":{\"message\":\"a fault of the mock\",\"type\":\"mock_error\",\"param\":null,\"code\":null}}";
    add_format(&failure, "HTTP/1.1 %d Fault\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n",
               options.fail_status, strlen(body));
    if (options.retry_after)
        add_format(&failure, "retry-after: %d\r\n", options.retry_after);
    add_format(&failure, "\r\n%s", body);
}

static void prepare_answers(void) {
    char text[2048];
    prepare_failure();
    prepare_chat(&scripts[0][CHAT], 0);
    prepare_chat(&scripts[0][CHAT_USAGE], 1);
    prepare_messages(&scripts[0][MESSAGES]);
    prepare_converse(&scripts[0][CONVERSE]);
    prepare_embeddings(&scripts[0][EMBEDDINGS]);
    prepare_chat_call(&scripts[1][CHAT], 0);
    prepare_chat_call(&scripts[1][CHAT_USAGE], 1);
    prepare_messages_call(&scripts[1][MESSAGES]);
    prepare_converse_call(&scripts[1][CONVERSE]);
    prepare_embeddings(&scripts[1][EMBEDDINGS]);
    for (int i = 0; i < 2 * DIALECTS; i++) {
        struct script *script = &scripts[i / DIALECTS][i % DIALECTS];
        if (script->token[1].length)
            append(&script->start, script->token[1].data, script->token[1].length);
    }
    snprintf(text, sizeof text,
             "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}",
             options.model);
    add_json_response(&models, "200 OK", text);
}

#endif
