#include "parallel.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

// Who works takes the next item from a counter, so the caller never waits for a thread that has not begun: where all
// threads of the pool are busy, with callers like this one perhaps, it does everything itself. A helper that begins
// after the loop has ended finds nothing left; the loop lives until the last helper has let go of it.
struct loop {
  run_item *run;
  const void *shared;
  int64_t items;
  atomic_int_fast64_t next, done;
  atomic_int references;
};

static void work(struct loop *loop) {
  for (;;) {
    int64_t item = atomic_fetch_add_explicit(&loop->next, 1, memory_order_relaxed);
    if (item >= loop->items) return;
    loop->run(loop->shared, item);
    atomic_fetch_add_explicit(&loop->done, 1, memory_order_release);
  }
}

static void let_go(struct loop *loop) {
  if (atomic_fetch_sub_explicit(&loop->references, 1, memory_order_acq_rel) == 1) free(loop);
}

static void help(void *loop) {
  work(loop);
  let_go(loop);
}

static bool succeeded(const XLA_FFI_Api *api, XLA_FFI_Error *error) {
  if (error == NULL) return true;
  XLA_FFI_Error_Destroy_Args args = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
  api->XLA_FFI_Error_Destroy(&args);
  return false;
}

static int64_t pool_threads(const XLA_FFI_CallFrame *frame) {
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {
      .struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, .ctx = frame->ctx, .num_threads = &threads};
  return succeeded(frame->api, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) ? threads : 1;
}

void parallel_for(const XLA_FFI_CallFrame *frame, int64_t items, int64_t worthwhile, run_item *run,
                  const void *shared) {
  if (worthwhile > items) worthwhile = items;
  int64_t threads = worthwhile > 1 ? pool_threads(frame) : 1;
  int64_t helpers = (threads < worthwhile ? threads : worthwhile) - 1;
  struct loop *loop = helpers > 0 ? malloc(sizeof *loop) : NULL;
  if (loop == NULL) {
    for (int64_t item = 0; item < items; item++) run(shared, item);
    return;
  }
  *loop = (struct loop){.run = run, .shared = shared, .items = items};
  atomic_init(&loop->references, 1 + (int)helpers);
  for (int64_t i = 0; i < helpers; i++) {
    XLA_FFI_ThreadPool_Schedule_Args args = {
        .struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, .ctx = frame->ctx, .task = help, .data = loop};
    if (!succeeded(frame->api, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) let_go(loop);
  }
  work(loop);
  // What is left are items that helpers are in the middle of.
  while (atomic_load_explicit(&loop->done, memory_order_acquire) < items) sched_yield();
  let_go(loop);
}
