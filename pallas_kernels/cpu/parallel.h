// Loops whose iterations XLA's own threads share.
#ifndef MUXJAX_PARALLEL_H
#define MUXJAX_PARALLEL_H

#include "ffi.h"

typedef void run_item(const void *shared, int64_t item);

// Calls run(shared, i) once for each i in [0, items), on this thread and on idle threads of XLA's pool, in any order.
// Returns when all are done. `worthwhile` is how many threads the work is worth, this one included.
void parallel_for(const XLA_FFI_CallFrame *frame, int64_t items, int64_t worthwhile, run_item *run, const void *shared);

#endif
