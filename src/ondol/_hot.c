/* The hot path's accelerator: what `ondol.accelerator` puts in the place of pure Python where a compiler was there at install.
 *
 * Every function takes one plain shape of its input, the usual one, and answers None for any other: the caller then goes the
 * Python way, which alone knows what is wrong with an input. No function here may answer anything but what the Python way
 * would; tests/fuzz/fuzzing/hot.py holds each against it. Nothing recurses, nothing is kept between two calls, all loops are
 * bounded by the length of an input that the caller has bounded, and no buffer is written without its size counted first.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define X86 1
#endif

/* Counted up with each change of what a function takes or gives: an older build is not used (`ondol.accelerator`). */
#define EDITION 1

#define HEADERS_MAX 64
#define NAME_BYTES_MAX 64

/* Classes of bytes; anything that is in none is left to Python. */
enum { NAME = 1, TARGET = 2, VALUE = 4, UNRESERVED = 8 };
static uint8_t kinds[256];

/* Header names that clients send all the time, made once. */
static const char *const usual_names[] = {
    "host", "x-amz-date", "authorization", "content-length", "content-type", "user-agent", "accept", "accept-encoding",
    "x-amz-security-token", "x-amz-content-sha256", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-user-agent",
    "x-amzn-trace-id", "x-amz-invocation-type", "x-amz-log-type", "x-amz-client-context", "traceparent", "connection", "x-amz-target",
};
#define USUAL_NAMES ((int)(sizeof usual_names / sizeof usual_names[0]))
static PyObject *usual_texts[USUAL_NAMES];
/* The first usual name of each length, and behind each the next one of its length; -1 ends a chain. */
static int8_t first_of_size[NAME_BYTES_MAX + 1], next_of_size[USUAL_NAMES];
static PyObject *text_post, *text_get, *text_host, *text_empty;

static void mark(const char *bytes, uint8_t kind) {
    for (; *bytes; bytes++)
        kinds[(uint8_t)*bytes] |= kind;
}

static PyObject *ascii(const char *bytes, Py_ssize_t size) {
    PyObject *text = PyUnicode_New(size, 127);
    if (text && size)
        memcpy(PyUnicode_1BYTE_DATA(text), bytes, (size_t)size);
    return text;
}

/* The bytes of a str of ASCII alone, or NULL (without an exception) for anything else. */
static const char *ascii_of(PyObject *text, Py_ssize_t *size) {
    if (!text || !PyUnicode_Check(text) || PyUnicode_READY(text) < 0 || !PyUnicode_IS_COMPACT_ASCII(text)) {
        PyErr_Clear();
        return NULL;
    }
    *size = PyUnicode_GET_LENGTH(text);
    return (const char *)PyUnicode_1BYTE_DATA(text);
}

/* ---- HTTP: a head and its body that came in one piece (ondol/http/connection.py, exchange.py; llhttp's strict mode) ---- */

/* Names that change how a request is read: `exchange.read_head` and the parser look at those. */
static int changes_reading(const char *name, Py_ssize_t size) {
    switch (size) {
    case 6: return !memcmp(name, "expect", 6);
    case 7: return !memcmp(name, "upgrade", 7) || !memcmp(name, "trailer", 7);
    case 10: return !memcmp(name, "keep-alive", 10);
    case 16: return !memcmp(name, "proxy-connection", 16);
    case 17: return !memcmp(name, "transfer-encoding", 17);
    default: return 0;
    }
}

static PyObject *name_text(const char *lower, Py_ssize_t size) {
    for (int at = first_of_size[size]; at >= 0; at = next_of_size[at])
        if (!memcmp(usual_names[at], lower, (size_t)size))
            return Py_NewRef(usual_texts[at]);
    return ascii(lower, size);
}

/* take_request(data) -> (method, target, headers, index, body) | None. Exactly one POST or GET of HTTP/1.1 with one Host. */
static PyObject *take_request(PyObject *self, PyObject *data) {
    if (!PyBytes_CheckExact(data))
        Py_RETURN_NONE;
    const char *at = PyBytes_AS_STRING(data), *const end = at + PyBytes_GET_SIZE(data);
    PyObject *method, *target = NULL, *headers = NULL, *index = NULL, *name = NULL, *value = NULL, *body = NULL, *found = NULL;
    if (end - at < 32)
        Py_RETURN_NONE;
    if (!memcmp(at, "POST /", 6))
        method = text_post, at += 5;
    else if (!memcmp(at, "GET /", 5))
        method = text_get, at += 4;
    else
        Py_RETURN_NONE;
    const char *start = at;
    while (at < end && kinds[(uint8_t)*at] & TARGET)
        at++;
    if (end - at < 11 || memcmp(at, " HTTP/1.1\r\n", 11))
        Py_RETURN_NONE;
    if (!(target = ascii(start, at - start)) || !(headers = PyList_New(0)) || !(index = PyDict_New()))
        goto done;
    at += 11;
    int32_t length = -1;
    for (int count = 0;; count++) {
        if (end - at < 2)
            goto done;
        if (at[0] == '\r' && at[1] == '\n') {
            at += 2;
            break;
        }
        char lower[NAME_BYTES_MAX];
        Py_ssize_t size = 0;
        for (; at < end && size < NAME_BYTES_MAX && kinds[(uint8_t)*at] & NAME; at++)
            lower[size++] = (char)(*at >= 'A' && *at <= 'Z' ? *at + 32 : *at);
        if (!size || end - at < 1 || *at != ':' || count == HEADERS_MAX || changes_reading(lower, size))
            goto done;
        for (at++; at < end && *at == ' '; at++)
            ;
        start = at;
        while (at < end && kinds[(uint8_t)*at] & VALUE)
            at++;
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
            goto done;
        const char *last = at;
        while (last > start && last[-1] == ' ')
            last--;
        if (last == start)
            goto done; /* what an empty value is, the parser says */
        at += 2;
        if (size == 10 && !memcmp(lower, "connection", 10) && (last - start != 10 || memcmp(start, "keep-alive", 10)))
            goto done;
        if (size == 14 && !memcmp(lower, "content-length", 14)) {
            if (last - start > 8 || last != at - 2)
                goto done;
            length = 0;
            for (const char *digit = start; digit < last; digit++) {
                if (*digit < '0' || *digit > '9')
                    goto done;
                length = length * 10 + (*digit - '0');
            }
        }
        name = name_text(lower, size);
        value = name ? ascii(start, last - start) : NULL;
        PyObject *pair = value ? PyTuple_Pack(2, name, value) : NULL;
        if (!pair || PyList_Append(headers, pair) < 0 || PyDict_SetItem(index, name, value) < 0) {
            Py_XDECREF(pair);
            goto done;
        }
        Py_DECREF(pair);
        Py_CLEAR(name);
        Py_CLEAR(value);
    }
    if (PyDict_GET_SIZE(index) != PyList_GET_SIZE(headers) || end - at != (length < 0 ? 0 : length))
        goto done; /* a name that comes twice; a body that is not whole, or something behind it */
    int hosts = PyDict_Contains(index, text_host);
    if (hosts <= 0 || !(body = PyBytes_FromStringAndSize(at, end - at)))
        goto done;
    found = PyTuple_Pack(5, method, target, headers, index, body);
done:
    Py_XDECREF(target);
    Py_XDECREF(headers);
    Py_XDECREF(index);
    Py_XDECREF(name);
    Py_XDECREF(value);
    Py_XDECREF(body);
    if (!found && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}

/* Whether a response header's name is one that the server writes itself or asks about (rendering.OWNED, "date"). */
static int is_servers(const char *name, Py_ssize_t size) {
    static const char *const owned[] = {"date", "connection", "keep-alive", "content-length", "transfer-encoding"};
    if (size != 4 && size != 10 && size != 14 && size != 17)
        return 0;
    for (int which = 0; which < 5; which++) {
        Py_ssize_t at = 0;
        if ((Py_ssize_t)strlen(owned[which]) != size)
            continue;
        while (at < size && (name[at] | 32) == owned[which][at]) /* "-" has that bit; "\r" in its place is refused below */
            at++;
        if (at == size)
            return 1;
    }
    return 0;
}

/* How many bytes a header's text takes; -1 for text that Python must look at: a break, a NUL, or more than ASCII. */
static Py_ssize_t plain_size(PyObject *text) {
    Py_ssize_t size;
    const char *bytes = ascii_of(text, &size);
    if (!bytes || memchr(bytes, '\r', (size_t)size) || memchr(bytes, '\n', (size_t)size) || memchr(bytes, 0, (size_t)size))
        return -1;
    return size;
}

static char *put(char *to, const char *bytes, Py_ssize_t size) {
    memcpy(to, bytes, (size_t)size);
    return to + size;
}

static char *put_text(char *to, PyObject *ascii_text) {
    return put(to, (const char *)PyUnicode_1BYTE_DATA(ascii_text), PyUnicode_GET_LENGTH(ascii_text));
}

/* render(status_line, headers, date_line, body) -> bytes | None: what rendering.head and the body make, for a list or tuple of
 * pairs of which none is the server's own. */
static PyObject *render(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 4 || !PyBytes_CheckExact(arguments[3]))
        Py_RETURN_NONE;
    PyObject *line = arguments[0], *headers = arguments[1], *date = arguments[2], *body = arguments[3];
    if (!PyList_CheckExact(headers) && !PyTuple_CheckExact(headers))
        Py_RETURN_NONE;
    Py_ssize_t line_size = 0, date_size = 0, pairs = PySequence_Fast_GET_SIZE(headers);
    if (!ascii_of(line, &line_size) || !ascii_of(date, &date_size) || pairs > HEADERS_MAX)
        Py_RETURN_NONE;
    Py_ssize_t size = line_size + date_size;
    for (Py_ssize_t at = 0; at < pairs; at++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(headers, at);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
            Py_RETURN_NONE;
        Py_ssize_t name_size = plain_size(PyTuple_GET_ITEM(pair, 0)), value_size = plain_size(PyTuple_GET_ITEM(pair, 1));
        if (name_size < 0 || value_size < 0 || is_servers((const char *)PyUnicode_1BYTE_DATA(PyTuple_GET_ITEM(pair, 0)), name_size))
            Py_RETURN_NONE;
        size += name_size + value_size + 4;
    }
    char framing[64];
    int framing_size = snprintf(framing, sizeof framing, "content-length: %zd\r\n\r\n", PyBytes_GET_SIZE(body));
    PyObject *made = PyBytes_FromStringAndSize(NULL, size + framing_size + PyBytes_GET_SIZE(body));
    if (!made)
        return NULL;
    char *to = put_text(PyBytes_AS_STRING(made), line);
    for (Py_ssize_t at = 0; at < pairs; at++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(headers, at);
        to = put(put_text(to, PyTuple_GET_ITEM(pair, 0)), ": ", 2);
        to = put(put_text(to, PyTuple_GET_ITEM(pair, 1)), "\r\n", 2);
    }
    to = put(put_text(to, date), framing, framing_size);
    put(to, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body));
    return made;
}

/* ---- SHA-256 (FIPS 180-4) and HMAC (RFC 2104) of short texts, without an object per hash ---- */

static const uint32_t round_words[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} Sha256;

static void begin(Sha256 *hash) {
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof initial);
    hash->bytes = 0;
}

static uint32_t turned(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void take_block_anywhere(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 | (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        uint32_t low = turned(w[t - 15], 7) ^ turned(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t high = turned(w[t - 2], 17) ^ turned(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + low + w[t - 7] + high;
    }
    for (int t = 0; t < 64; t++) {
        uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + round_words[t] + w[t];
        uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

#ifdef X86
/* The same with the processor's own instructions: each pair of them does four rounds of two halves of the state. */
__attribute__((target("sha,sse4.1,ssse3"))) static void take_block_x86(uint32_t state[8], const uint8_t *block) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i dcba = _mm_loadu_si128((const __m128i *)state), hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0), w[4];
    const __m128i abef_before = abef, cdgh_before = cdgh;
#pragma GCC unroll 16
    for (int t = 0; t < 16; t++) {
        if (t < 4) {
            w[t] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * t)), order);
        } else {
            __m128i last = w[(t + 3) % 4], sum = _mm_sha256msg1_epu32(w[t % 4], w[(t + 1) % 4]);
            w[t % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(sum, _mm_alignr_epi8(last, w[(t + 2) % 4], 4)), last);
        }
        __m128i words = _mm_add_epi32(w[t % 4], _mm_loadu_si128((const __m128i *)(round_words + 4 * t)));
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(words, 0x0e));
    }
    abef = _mm_shuffle_epi32(_mm_add_epi32(abef, abef_before), 0x1b);
    cdgh = _mm_shuffle_epi32(_mm_add_epi32(cdgh, cdgh_before), 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(abef, cdgh, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(cdgh, abef, 8));
}

static int has_sha(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}
#endif

static void (*take_block)(uint32_t state[8], const uint8_t *block) = take_block_anywhere;

static void take(Sha256 *hash, const void *data, size_t size) {
    const uint8_t *from = data;
    size_t held = hash->bytes % 64;
    hash->bytes += size;
    if (held) {
        size_t some = 64 - held < size ? 64 - held : size;
        memcpy(hash->block + held, from, some);
        from += some, size -= some;
        if (held + some < 64)
            return;
        take_block(hash->state, hash->block);
    }
    for (; size >= 64; from += 64, size -= 64)
        take_block(hash->state, from);
    if (size)
        memcpy(hash->block, from, size);
}

static void words_to_bytes(const uint32_t words[8], uint8_t *to) {
    for (int at = 0; at < 32; at++)
        to[at] = (uint8_t)(words[at / 4] >> (24 - at % 4 * 8));
}

static void finish(Sha256 *hash, uint8_t digest[32]) {
    uint64_t bits = hash->bytes * 8;
    size_t held = hash->bytes % 64;
    hash->block[held++] = 0x80;
    if (held > 56) {
        memset(hash->block + held, 0, 64 - held);
        take_block(hash->state, hash->block);
        held = 0;
    }
    memset(hash->block + held, 0, 56 - held);
    for (int at = 0; at < 8; at++)
        hash->block[56 + at] = (uint8_t)(bits >> (56 - 8 * at));
    take_block(hash->state, hash->block);
    words_to_bytes(hash->state, digest);
}

static void hex(const uint8_t digest[32], char to[64]) {
    static const char digits[] = "0123456789abcdef";
    for (int at = 0; at < 32; at++)
        to[2 * at] = digits[digest[at] >> 4], to[2 * at + 1] = digits[digest[at] & 15];
}

/* choose(anywhere) -> whether the processor's own instructions are at work now: for tests of the others. */
static PyObject *choose(PyObject *self, PyObject *anywhere) {
    take_block = take_block_anywhere;
#ifdef X86
    if (!PyObject_IsTrue(anywhere) && has_sha())
        take_block = take_block_x86;
#endif
    return PyBool_FromLong(take_block != take_block_anywhere);
}

/* sha256(data) -> its digest's hexadecimal digits: what the tests hold against hashlib. */
static PyObject *sha256(PyObject *self, PyObject *data) {
    if (!PyBytes_Check(data))
        return PyErr_Format(PyExc_TypeError, "bytes are hashed, not %s", Py_TYPE(data)->tp_name);
    Sha256 hash;
    uint8_t digest[32];
    char text[64];
    begin(&hash);
    take(&hash, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    finish(&hash, digest);
    hex(digest, text);
    return ascii(text, 64);
}

/* keyed(key) -> 64 bytes: the two states of an HMAC-SHA-256 that has taken in a key of at most 64 bytes. */
static PyObject *keyed(PyObject *self, PyObject *key) {
    if (!PyBytes_Check(key) || PyBytes_GET_SIZE(key) > 64)
        return PyErr_Format(PyExc_ValueError, "a key is at most 64 bytes");
    PyObject *made = PyBytes_FromStringAndSize(NULL, 64);
    if (!made)
        return NULL;
    for (int outer = 0; outer < 2; outer++) {
        Sha256 hash;
        uint8_t block[64] = {0};
        memcpy(block, PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
        for (int at = 0; at < 64; at++)
            block[at] ^= outer ? 0x5c : 0x36;
        begin(&hash);
        take_block(hash.state, block);
        words_to_bytes(hash.state, (uint8_t *)PyBytes_AS_STRING(made) + 32 * outer);
    }
    return made;
}

static void resume(Sha256 *hash, const uint8_t *bytes) {
    for (int at = 0; at < 8; at++)
        hash->state[at] = (uint32_t)bytes[4 * at] << 24 | (uint32_t)bytes[4 * at + 1] << 16 | (uint32_t)bytes[4 * at + 2] << 8 | bytes[4 * at + 3];
    hash->bytes = 64;
}

/* ---- Signature Version 4 (dialects/aws/sigv4.py, canonical.py) ---- */

/* canonical._PLAIN_PATH: segments that begin with no dot, one slash at the end at most. */
static int is_plain_path(const char *path, Py_ssize_t size) {
    if (!size || path[0] != '/')
        return 0;
    for (Py_ssize_t at = 1; at < size; at++) {
        if (path[at] == '/' ? path[at - 1] == '/' : !(kinds[(uint8_t)path[at]] & UNRESERVED) || (path[at] == '.' && path[at - 1] == '/'))
            return 0;
    }
    return 1;
}

/* Whether signers would fold blanks in this value, or it looks as if they might (`sigv4._read_usual`). */
static int has_blanks(const char *value, Py_ssize_t size) {
    if (!size)
        return 0;
    if (value[0] == ' ' || value[size - 1] == ' ')
        return 1;
    for (Py_ssize_t at = 0; at < size; at++)
        if (value[at] == '\t' || value[at] == '\n' || (value[at] == ' ' && (value[at - 1] == ' ' || value[at - 1] == ':')))
            return 1; /* at is never 0 for a blank: the first byte is none */
    return 0;
}

/* canonical(method, path, index, names, signed) -> the canonical request up to the payload's hash | None. No query. */
static PyObject *canonical(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Py_ssize_t method_size = 0, path_size = 0, signed_size = 0;
    if (count != 5 || !PyDict_CheckExact(arguments[2]) || !PyTuple_CheckExact(arguments[3]))
        Py_RETURN_NONE;
    PyObject *index = arguments[2], *names = arguments[3];
    const char *method = ascii_of(arguments[0], &method_size), *path = ascii_of(arguments[1], &path_size);
    const char *signed_names = ascii_of(arguments[4], &signed_size);
    Py_ssize_t lines = PyTuple_GET_SIZE(names);
    if (!method || !path || !signed_names || lines > HEADERS_MAX || !is_plain_path(path, path_size))
        Py_RETURN_NONE;
    PyObject *values[HEADERS_MAX]; /* borrowed from index, which nothing changes meanwhile */
    Py_ssize_t size = method_size + path_size + signed_size + 5;
    for (Py_ssize_t at = 0; at < lines; at++) {
        Py_ssize_t name_size, value_size;
        PyObject *name = PyTuple_GET_ITEM(names, at);
        if (!ascii_of(name, &name_size))
            Py_RETURN_NONE;
        values[at] = PyDict_GetItemWithError(index, name);
        if (!values[at]) {
            if (PyErr_Occurred())
                return NULL;
            values[at] = text_empty;
        }
        const char *value = ascii_of(values[at], &value_size);
        if (!value || has_blanks(value, value_size))
            Py_RETURN_NONE;
        size += name_size + value_size + 2;
    }
    PyObject *made = PyUnicode_New(size, 127);
    if (!made)
        return NULL;
    char *to = (char *)PyUnicode_1BYTE_DATA(made);
    to = put(put(to, method, method_size), "\n", 1);
    to = put(put(to, path, path_size), "\n\n", 2);
    for (Py_ssize_t at = 0; at < lines; at++) {
        to = put(put_text(to, PyTuple_GET_ITEM(names, at)), ":", 1);
        to = put(put_text(to, values[at]), "\n", 1);
    }
    put(put(put(to, "\n", 1), signed_names, signed_size), "\n", 1);
    return made;
}

/* holds(states, canonical, payload, stamp, date, region, service, signature) -> bool | None. `payload`: the body, or its hash
 * as the client fixed it. The signature is compared in constant time. */
static PyObject *holds(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 8 || !PyBytes_CheckExact(arguments[0]) || PyBytes_GET_SIZE(arguments[0]) != 64)
        Py_RETURN_NONE;
    Py_ssize_t sizes[8];
    const char *texts[8];
    for (int at = 1; at < 8; at++)
        if (!(texts[at] = ascii_of(arguments[at], &sizes[at])) && !(at == 2 && PyBytes_CheckExact(arguments[2])))
            Py_RETURN_NONE;
    Sha256 hash;
    uint8_t digest[32];
    char payload[64], request[64], expected[64];
    begin(&hash);
    take(&hash, texts[1], (size_t)sizes[1]);
    if (texts[2]) {
        take(&hash, texts[2], (size_t)sizes[2]);
    } else {
        Sha256 body;
        begin(&body);
        take(&body, PyBytes_AS_STRING(arguments[2]), (size_t)PyBytes_GET_SIZE(arguments[2]));
        finish(&body, digest);
        hex(digest, payload);
        take(&hash, payload, 64);
    }
    finish(&hash, digest);
    hex(digest, request);
    const uint8_t *states = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    resume(&hash, states);
    take(&hash, "AWS4-HMAC-SHA256\n", 17);
    for (int at = 3; at < 7; at++) {
        take(&hash, texts[at], (size_t)sizes[at]);
        take(&hash, at == 3 ? "\n" : "/", 1);
    }
    take(&hash, "aws4_request\n", 13);
    take(&hash, request, 64);
    finish(&hash, digest);
    resume(&hash, states + 32);
    take(&hash, digest, 32);
    finish(&hash, digest);
    hex(digest, expected);
    if (sizes[7] != 64)
        Py_RETURN_FALSE;
    volatile uint8_t differs = 0;
    for (int at = 0; at < 64; at++)
        differs |= (uint8_t)(expected[at] ^ texts[7][at]);
    return PyBool_FromLong(!differs);
}

/* ---- Frames (ondol_guest/frames.py) and ids (dialects/aws/ids.py, invoke.trace_of) ---- */

/* take_result(data) -> (flags, invocation, body) | None: one whole RESULT without meta and without MORE, and nothing else. */
static PyObject *take_result(PyObject *self, PyObject *data) {
    if (!PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) < 20)
        Py_RETURN_NONE;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(data);
    uint32_t flags = bytes[2] | (uint32_t)bytes[3] << 8, length = 0, meta = 0;
    uint64_t invocation = 0;
    for (int at = 3; at >= 0; at--)
        length = length << 8 | bytes[4 + at], meta = meta << 8 | bytes[16 + at];
    for (int at = 7; at >= 0; at--)
        invocation = invocation << 8 | bytes[8 + at];
    if (bytes[0] != 1 || bytes[1] != 18 || flags & ~4u || meta || length > 65536 || (Py_ssize_t)length + 16 != PyBytes_GET_SIZE(data))
        Py_RETURN_NONE;
    return Py_BuildValue("IKy#", (unsigned)flags, (unsigned long long)invocation, bytes + 20, PyBytes_GET_SIZE(data) - 20);
}

/* uuid_of(digits) -> the text of a random UUID of 32 random hexadecimal digits | None. */
static PyObject *uuid_of(PyObject *self, PyObject *digits) {
    Py_ssize_t size;
    const char *from = ascii_of(digits, &size);
    if (!from || size != 32)
        Py_RETURN_NONE;
    char text[36];
    int drawn = from[16] >= 'a' ? from[16] - 'a' + 10 : from[16] - '0';
    put(put(put(put(put(put(put(text, from, 8), "-", 1), from + 8, 4), "-4", 2), from + 13, 3), "-", 1), "", 0);
    text[19] = "89ab"[drawn & 3];
    put(put(put(text + 20, from + 17, 3), "-", 1), from + 20, 12);
    return ascii(text, 36);
}

/* trace_of(seconds, digits) -> a trace header of 48 random hexadecimal digits | None. */
static PyObject *trace_of(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Py_ssize_t size;
    const char *from = count == 2 ? ascii_of(arguments[1], &size) : NULL;
    if (!from || size != 48 || !PyLong_Check(arguments[0]))
        Py_RETURN_NONE;
    unsigned long seconds = PyLong_AsUnsignedLong(arguments[0]);
    if (PyErr_Occurred() || seconds > 0xffffffffUL) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    char text[128];
    int length = snprintf(text, sizeof text, "Root=1-%08lx-%.24s;Parent=%.16s;Sampled=0;Lineage=1:%.8s:0", seconds, from, from + 24, from + 40);
    return ascii(text, length);
}

static PyMethodDef methods[] = {
    {"take_request", take_request, METH_O, NULL},
    {"render", (PyCFunction)(void (*)(void))render, METH_FASTCALL, NULL},
    {"choose", choose, METH_O, NULL},
    {"sha256", sha256, METH_O, NULL},
    {"keyed", keyed, METH_O, NULL},
    {"canonical", (PyCFunction)(void (*)(void))canonical, METH_FASTCALL, NULL},
    {"holds", (PyCFunction)(void (*)(void))holds, METH_FASTCALL, NULL},
    {"take_result", take_result, METH_O, NULL},
    {"uuid_of", uuid_of, METH_O, NULL},
    {"trace_of", (PyCFunction)(void (*)(void))trace_of, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "ondol._hot", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__hot(void) {
    for (int byte = 'a'; byte <= 'z'; byte++)
        kinds[byte] = kinds[byte - 32] = NAME | TARGET | UNRESERVED;
    for (int byte = '0'; byte <= '9'; byte++)
        kinds[byte] = NAME | TARGET | UNRESERVED;
    mark("-_", NAME);
    mark("-_.~", UNRESERVED);
    mark("-._~/%?=&:+,;@", TARGET);
    for (int byte = 32; byte < 127; byte++)
        kinds[byte] |= VALUE;
#ifdef X86
    if (has_sha())
        take_block = take_block_x86;
#endif
    memset(first_of_size, -1, sizeof first_of_size);
    for (int at = 0; at < USUAL_NAMES; at++) {
        Py_ssize_t size = (Py_ssize_t)strlen(usual_names[at]);
        if (!(usual_texts[at] = PyUnicode_InternFromString(usual_names[at])))
            return NULL;
        next_of_size[at] = first_of_size[size];
        first_of_size[size] = (int8_t)at;
    }
    text_post = PyUnicode_InternFromString("POST");
    text_get = PyUnicode_InternFromString("GET");
    text_host = PyUnicode_InternFromString("host");
    text_empty = PyUnicode_InternFromString("");
    PyObject *made = PyModule_Create(&module);
    if (!made || !text_post || !text_get || !text_host || !text_empty || PyModule_AddIntConstant(made, "EDITION", EDITION) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
