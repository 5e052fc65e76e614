// The engine's part in coded all-reduces (two_shot.hpp): which units leave when, when a segment is reduced, and on
// whose thread. Everything but encode() runs under the engine's mutex.
#include <mutex>
#include <shared_mutex>

#include "runtime/data/engine.hpp"
#include "runtime/data/io_thread.hpp"

namespace hawser::runtime {

// Piece by piece, so that the first units leave while the rest is being encoded. The codes serve every attempt.
void Engine::encode(OpRun& op) {
  for (std::size_t block = 0; block < op.coded->blocks();) {
    {
      const Lock lock(mutex_);
      if (op.ended || !op.laid_out) return;
    }
    block = op.coded->encode_from(block);
    const Lock lock(mutex_);
    op.coded->encoded = block;
    if (op.ended || !op.laid_out) return;
    release(op);
  }
}

void Engine::release(OpRun& op) {
  TwoShot& coded = *op.coded;
  const std::uint32_t slices = op.schedule.slices();
  while (coded.next_release < slices && coded.next_release < coded.window_begin + window_slices) {
    const std::uint32_t slice = coded.next_release;
    if (op.schedule.slice_end(slice) > coded.encoded) return;
    ++coded.next_release;
    coded.slices[slice].released = true;
    for (std::uint32_t step = 0; step < op.schedule.steps() && op.schedule.scatters(step); ++step) {
      unit_ready(op, slice, step);
    }
    reduce_when_ready(op, slice);
  }
}

void Engine::reduce_when_ready(OpRun& op, std::uint32_t slice) {
  TwoShot::Slice& state = op.coded->slices[slice];
  const auto others = static_cast<std::uint32_t>(op.participants.size() - 1);
  if (state.reducing || !state.released || state.arrived != others) return;
  for (std::uint32_t rank = 0; rank <= others; ++rank) {
    if (rank != op.rank && !op.partners[rank].begun) return;
  }
  state.reducing = true;
  IoThread& thread = bulk_thread(slice);
  thread.run([this, &thread, op = op.shared_from_this(), attempt = op.attempt.load(), slice, weights = op.weights] {
    kernels::Digest digest;
    {
      const std::shared_lock hold(op->local_mutex);
      if (op->attempt.load() != attempt) return;
      digest = op->coded->reduce(slice, weights);
    }
    {
      const Lock lock(mutex_);
      if (op->attempt.load() != attempt) return;
      op->digest.combine(digest);
      reduced(*op, slice);
    }
    thread.run_scheduled();
  });
}

void Engine::reduced(OpRun& op, std::uint32_t slice) {
  TwoShot::Slice& state = op.coded->slices[slice];
  state.contributions = {};
  state.reduced = true;
  for (std::uint32_t step = 0; step < op.schedule.steps(); ++step) {
    if (!op.schedule.scatters(step)) unit_ready(op, slice, step);
  }
  slice_moved(op);
  one_less(op);
}

// The window begins behind the slices that are complete.
void Engine::slice_moved(OpRun& op) {
  TwoShot& coded = *op.coded;
  const auto others = static_cast<std::uint32_t>(op.participants.size() - 1);
  while (coded.window_begin < op.schedule.slices()) {
    const TwoShot::Slice& state = coded.slices[coded.window_begin];
    if (!state.reduced || state.gathered != others) break;
    ++coded.window_begin;
  }
  release(op);
}

}  // namespace hawser::runtime
