/* A CUDA driver without a GPU: device memory is host memory, every call is written to a log, and kernels are not run but their
   launches are recorded byte for byte. The tests compile it and load it in the place of libcuda.so.1. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char log_text[1 << 20];
static size_t log_length;

/* What it pretends to be until a test says otherwise; a program that is tested as a process gets its own by -D. */
#ifndef STUB_VERSION
#define STUB_VERSION 12040
#endif
#ifndef STUB_MAJOR
#define STUB_MAJOR 9
#endif
#ifndef STUB_MEMORY
#define STUB_MEMORY 1000000
#endif
#ifndef STUB_MULTIPROCESSORS
#define STUB_MULTIPROCESSORS 4
#endif
static int driver_version = STUB_VERSION, device_count = 2, capability_major = STUB_MAJOR, load_result = 0;
static uint64_t free_bytes = STUB_MEMORY;
static int capturing;
static uint8_t last_argument[4096];
static int argument_bytes;

/* What a benchmark of the host's side counts; such a stub writes no log and leaves out what a GPU would do (-DSTUB_QUIET). */
#ifdef STUB_QUIET
#define MOVE(call)
#else
#define MOVE(call) call
#endif
static struct { int64_t launches, copies, bytes, waits, replays; } counts;
void stub_counts(void *into) { memcpy(into, &counts, sizeof counts); memset(&counts, 0, sizeof counts); }

/* What no longer fits is not written down: a program that is tested as a process never empties the log. */
static void note(const char *format, ...) {
#ifdef STUB_QUIET
    return;
#endif
    if (sizeof log_text - log_length < 512) return;
    va_list list;
    va_start(list, format);
    log_length += vsnprintf(log_text + log_length, sizeof log_text - log_length, format, list);
    va_end(list);
}

const char *stub_log(void) { return log_text; }
/* A process that is tested from outside leaves its log where it is told to. */
__attribute__((destructor)) static void keep_log(void) {
    const char *path = getenv("STUB_LOG");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) { fwrite(log_text, 1, log_length, file); fclose(file); }
}
void stub_reset(int version, int devices, int major, uint64_t memory, int load) {
    log_length = 0; log_text[0] = 0; capturing = 0;
    driver_version = version; device_count = devices; capability_major = major; free_bytes = memory; load_result = load;
}
void stub_expect_argument(int bytes) { argument_bytes = bytes; }
const uint8_t *stub_argument(void) { return last_argument; }

/* Nearly every call needs a context that is current on its thread and still there. */
static __thread void *current;
static int retained[16];
#define CONTEXT if (!current) return 201; if (!retained[(uintptr_t)current & 15]) return 709
/* Everything goes on the one stream: what went on the legacy stream would not wait for it, and would spoil a capture. */
#define ON_STREAM CONTEXT; if (stream != (void *)0x57) return capturing ? 906 : 400
/* A driver refuses more than 48 KB of shared memory to a function that was not given it. */
static int shared_limit[65536], functions;

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = driver_version; return 0; }
int cuDeviceGetCount(int *count) { *count = device_count; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Stub %d", device); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 2000000; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? capability_major : attribute == 76 ? 0 : attribute == 16 ? STUB_MULTIPROCESSORS : attribute == 97 ? 232448 : 0;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { retained[device & 15]++; *context = (void *)(uintptr_t)(0x1000 + device); return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained[device & 15]--; note("release\n"); return 0; }
int cuCtxSetCurrent(void *context) { current = context; return context && !retained[(uintptr_t)context & 15] ? 709 : 0; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { CONTEXT; *available = free_bytes; *total = 2000000; return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    CONTEXT;
    if (capturing) return 900;
    if (bytes > free_bytes) return 2;
    free_bytes -= bytes;
    *address = (uint64_t)(uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    note("alloc %zu\n", bytes);
    return 0;
}
int cuMemFree_v2(uint64_t address) { CONTEXT; if (capturing) return 900; free((void *)(uintptr_t)address); note("free\n"); return 0; }
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) { CONTEXT; if (capturing) return 900; *address = malloc(bytes); note("pin %zu\n", bytes); return 0; }
int cuMemFreeHost(void *address) { CONTEXT; if (capturing) return 900; free(address); note("unpin\n"); return 0; }
static void count_copy(size_t bytes) { counts.copies++; counts.bytes += bytes; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    ON_STREAM;
    MOVE(memcpy((void *)(uintptr_t)to, from, bytes)); count_copy(bytes); note("upload %zu on %p\n", bytes, stream); return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    ON_STREAM;
    MOVE(memcpy(to, (void *)(uintptr_t)from, bytes)); count_copy(bytes); note("download %zu on %p\n", bytes, stream); return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    ON_STREAM;
    MOVE(memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes)); count_copy(bytes); note("copy %zu on %p\n", bytes, stream); return 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
    ON_STREAM;
    MOVE(memset((void *)(uintptr_t)to, value, bytes)); count_copy(0); note("fill %zu on %p\n", bytes, stream); return 0;
}
int cuStreamCreate(void **stream, unsigned flags) { CONTEXT; *stream = (void *)0x57; note("stream %u\n", flags); return 0; }
int cuStreamDestroy_v2(void *stream) { CONTEXT; note("stream gone\n"); return 0; }
int cuStreamSynchronize(void *stream) { ON_STREAM; counts.waits++; note("wait on %p\n", stream); return capturing ? 900 : 0; }
int cuStreamBeginCapture_v2(void *stream, int mode) { ON_STREAM; if (capturing || mode != 2) return 1; capturing = 1; note("begin capture on %p\n", stream); return 0; }
int cuStreamEndCapture(void *stream, void **graph) { ON_STREAM; if (!capturing) return 1; capturing = 0; *graph = (void *)0x61; note("end capture on %p\n", stream); return 0; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) { CONTEXT; *executable = (void *)0x62; note("instantiate %p\n", graph); return 0; }
int cuGraphLaunch(void *executable, void *stream) { ON_STREAM; counts.replays++; note("replay %p on %p\n", executable, stream); return 0; }
int cuGraphDestroy(void *graph) { note("graph gone\n"); return 0; }
int cuGraphExecDestroy(void *executable) { note("executable gone\n"); return 0; }
/* Events without a time (flag 2) are marks to wait for; their waits are logged. */
int cuEventCreate(void **event, unsigned flags) { CONTEXT; static uintptr_t next = 0x70; *event = (void *)(next++ | (flags & 2) << 30); return 0; }
int cuEventRecord(void *event, void *stream) { ON_STREAM; note("mark on %p\n", stream); return 0; }
int cuEventSynchronize(void *event) { CONTEXT; counts.waits++; if ((uintptr_t)event >> 31) note("wait for mark\n"); return capturing ? 900 : 0; }
int cuEventElapsedTime(float *milliseconds, void *start, void *stop) { CONTEXT; *milliseconds = 1.5f; return (uintptr_t)start >> 31 || (uintptr_t)stop >> 31 ? 400 : 0; }
int cuEventDestroy_v2(void *event) { CONTEXT; return 0; }
int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    CONTEXT;
    *module = (void *)0x81;
    if (capturing) return 900;
    for (unsigned i = 0; load_result && i < count; i++)
        if (options[i] == 5) strcpy(values[i], "ptxas: line 7 is wrong");
    note("load %.8s\n", (const char *)image);
    return load_result;
}
int cuFuncGetAttribute(int *value, int attribute, void *function) {
    *value = attribute == 4 ? 40 : attribute == 0 ? 1024 : attribute == 3 ? 16 : attribute == 6 ? 90 : 0;
    return 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads, size_t shared) { *blocks = 3; return 0; }
static int clusters_at_once = STUB_MULTIPROCESSORS;
int cuOccupancyMaxActiveClusters(int *clusters, void *function, const unsigned *configuration) {
    CONTEXT;
    note("clusters of grid %u block %u shared %u\n", configuration[0], configuration[3], configuration[6]);
    *clusters = clusters_at_once; return 0;
}
void stub_clusters(int count) { clusters_at_once = count; }
int cuModuleUnload(void *module) { CONTEXT; note("unload\n"); return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    CONTEXT;
    if (functions == 65535) functions = 0;
    *function = (void *)(uintptr_t)++functions;
    shared_limit[functions] = 48 * 1024;
    note("function %s\n", name);
    return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    CONTEXT;
    if (attribute == 8 && value > 232448 || attribute == 9 && value > 100) return 1;
    if (attribute == 8) shared_limit[(uintptr_t)function] = value;
    note("attribute %d = %d\n", attribute, value);
    return 0;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                   void **parameters, void **extra) {
    ON_STREAM;
    if ((int)shared > shared_limit[(uintptr_t)function] || gy > 65535 || gz > 65535 || bx * by * bz > 1024) return 1;
    counts.launches++;
    memcpy(last_argument, parameters[0], argument_bytes);
    note("launch grid %u %u %u block %u %u %u shared %u on %p\n", gx, gy, gz, bx, by, bz, shared, stream);
    return gx > 1000000 ? 1 : 0;
}
int cuGetErrorName(int result, const char **name) {
    *name = result == 1 ? "CUDA_ERROR_INVALID_VALUE" : result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : result == 218 ? "CUDA_ERROR_INVALID_PTX" : "CUDA_ERROR_OTHER";
    return 0;
}
int cuGetErrorString(int result, const char **text) { *text = "as the stub says"; return 0; }
/* A map that says what it is of: the address, then columns, rows, bytes of a row, rows of a box. */
int cuTensorMapEncodeTiled(uint64_t *map, int type, unsigned rank, uint64_t address, const uint64_t *sizes, const uint64_t *strides, const unsigned *box,
                           const unsigned *steps, int interleave, int swizzle, int promotion, int fill) {
    if ((uintptr_t)map % 128 || address % 16 || strides[0] % 16 || strides[0] >> 40 || rank != 2 || !sizes[0] || !sizes[1] || sizes[0] >> 32 || sizes[1] >> 32) return 1;
    if (!box[0] || box[0] * 2 > 128 || !box[1] || box[1] > 256 || interleave || swizzle != 3 || promotion > 3 || fill > 1 || steps[0] != 1 || steps[1] != 1) return 1;
    memset(map, 0, 128);
    map[0] = address; map[1] = sizes[0]; map[2] = sizes[1]; map[3] = strides[0]; map[4] = box[1];
    note("map of type %d: %llu x %llu in boxes of %u x %u\n", type, (unsigned long long)sizes[1], (unsigned long long)sizes[0], box[1], box[0]);
    return 0;
}
