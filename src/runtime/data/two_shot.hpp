// The arithmetic and the memory of an all-reduce by direct exchange: every contribution is encoded once, its owner adds
// the decoded ones in rank order in f32, encodes the result once, and everyone, the owner included, decodes the same
// bytes. Uncompressed, the codes are plain f32 (a weighted average).
//
// Blocks are counted from the start of the whole vector, so a contribution's codes do not depend on who takes part:
// they are made once and serve every attempt. The result is decoded into the user's buffer when the operation has
// committed, which is why inputs are intact until then, in place too.
//
// Memory: encoded_bytes of the vector for the contribution (none for plain f32) and once more for the result, and the
// contributions to own segments of at most 2 x window_slices slices.
//
// Threads: encode_from() runs on the thread that starts the operation, reduce() on an io thread, decode() on one that
// waits; the engine orders them. The rest is guarded by the engine's mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "codec/codec.hpp"
#include "kernels/kernels.hpp"
#include "plan/schedule.hpp"
#include "runtime/data/byte_buffer.hpp"
#include "runtime/data/reduce_buffers.hpp"
#include "runtime/residual.hpp"

namespace hawser::runtime {

// Slices whose contributions a member lets go before the first of them is complete.
inline constexpr std::uint32_t window_slices = 32;

struct Coding {
  codec::Format format;
  bool weighted = false;
  double weight = 1.0;  // or wire::weight_left_out
  std::uint64_t seed = 0;
  float decay = 1.0F;
  std::shared_ptr<Residual> residual;  // taken while the operation is open
};

class TwoShot {
 public:
  TwoShot(Coding coding, const ReduceBuffers& buffers);
  ~TwoShot();
  TwoShot(const TwoShot&) = delete;
  TwoShot& operator=(const TwoShot&) = delete;

  // Takes the residual, if there is one, until the end; false: another operation has it.
  bool acquire();
  [[nodiscard]] std::size_t blocks() const { return blocks_; }
  [[nodiscard]] std::size_t unit_blocks(std::size_t unit_bytes) const;
  [[nodiscard]] std::size_t wire_bytes() const { return bytes_of({0, blocks_}); }
  [[nodiscard]] std::size_t bytes_of(const plan::Segment& blocks) const;
  [[nodiscard]] double weight() const { return coding_.weight; }
  // Names this member's part in this operation: its random numbers are the same in every attempt, and unrelated to
  // those of any other operation, member or seed.
  void set_noise(std::initializer_list<std::uint64_t> name);

  // -------------------------------------------------------------------------------------------------- contributions
  // Memory for the whole operation. RESOURCE.
  Status allocate();
  // Encodes the next blocks of the contribution; their end. Not under the engine's mutex.
  std::size_t encode_from(std::size_t block);
  std::size_t encoded = 0;  // blocks done, as the engine knows

  // ------------------------------------------------------------------------------------------------------ attempts
  struct Slice {
    ByteBuffer contributions;    // to the own segment, by distance of the sender
    std::uint32_t arrived = 0;   // of them
    std::uint32_t gathered = 0;  // segments of the result that are here
    bool released = false;       // own contributions are on their way
    bool reducing = false;
    bool reduced = false;
  };
  void begin(const plan::Schedule& schedule, std::uint32_t rank, std::uint32_t size);
  std::vector<Slice> slices;
  std::uint32_t window_begin = 0;  // first slice that is not complete
  std::uint32_t next_release = 0;

  [[nodiscard]] std::span<const std::byte> payload(std::uint32_t slice, std::uint32_t step) const;
  // Where an arriving unit goes. Throws std::bad_alloc.
  [[nodiscard]] std::byte* place(std::uint32_t slice, std::uint32_t step);
  // All contributions to the own segment of the slice are in: result codes and their digest. weights by rank.
  kernels::Digest reduce(std::uint32_t slice, const std::vector<double>& weights);

  // ------------------------------------------------------------------------------------------------------- the end
  // The operation has committed: the residual is replaced.
  void commit();
  // It has ended: the residual is given back.
  void close();
  void decode() const;
  // After the end, and where there is a result to be decoded after that: nothing is encoded, reduced or decoded any
  // more.
  struct Memory {
    std::vector<Slice> slices;
    ByteBuffer codes;
    ByteBuffer result;
    ByteBuffer residual;
    std::shared_ptr<BlockPool> pool;
  };
  [[nodiscard]] Memory take_memory();

 private:
  // A contribution of weight 0 or left out is not looked at; its codes are zeros.
  [[nodiscard]] bool counts() const { return coding_.weight > 0; }
  [[nodiscard]] bool plain() const {
    return coding_.format.codec == codec::Codec::none && buffers_.dtype == Dtype::f32;
  }
  [[nodiscard]] const std::byte* codes() const { return codes_ ? codes_.data() : buffers_.send; }
  [[nodiscard]] std::size_t first_element(std::size_t block) const;

  Coding coding_;
  const ReduceBuffers buffers_;
  std::size_t blocks_ = 0;
  std::size_t block_bytes_ = 0;
  std::uint64_t contribution_noise_ = 0;
  std::uint64_t result_noise_ = 0;
  ByteBuffer codes_;  // null: plain f32, sent from the user's buffer
  ByteBuffer result_;
  std::shared_ptr<BlockPool> pool_;  // of contributions, for vectors of several slices
  std::size_t pool_bytes_ = 0;
  ByteBuffer residual_next_;  // of a contribution that counts
  bool acquired_ = false;

  plan::Schedule schedule_;
  std::uint32_t rank_ = 0;
  std::uint32_t size_ = 1;
};

}  // namespace hawser::runtime
