/* cuBLAS without a GPU, binary32 only: "device" memory is the stub driver's host memory, products are computed here, and the last call is kept.
   Matrices are column-major, as in the real one. */
#include <stdio.h>

static char last_call[256];
static void *last_stream;
static const float *last[3];

const char *stub_call(void) { return last_call; }
const void *stub_matrix(int i) { return last[i]; }

int cublasCreate_v2(void **handle) { *handle = (void *)0x77; return 0; }
int cublasDestroy_v2(void *handle) { return handle == (void *)0x77 ? 0 : 1; }
int cublasSetStream_v2(void *handle, void *stream) { last_stream = stream; return 0; }

int cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                 const float *beta, void *c, int type_c, int ldc, int compute, int algorithm) {
    snprintf(last_call, sizeof last_call, "types %d %d %d compute %d algorithm %d beta %g stream %p", type_a, type_b, type_c, compute, algorithm, *beta, last_stream);
    last[0] = a; last[1] = b; last[2] = c;
    if (type_a != 0 || type_b != 0) return 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0, *out = (float *)c + i + (long)j * ldc;
            for (int l = 0; l < k; l++)
                sum += ((const float *)a)[ta ? l + (long)i * lda : i + (long)l * lda] * ((const float *)b)[tb ? j + (long)l * ldb : l + (long)j * ldb];
            *out = *alpha * sum + *beta * *out;
        }
    return 0;
}
