// What each struct of sync.hpp consists of on the wire; see fields.hpp.
#pragma once

#include "wire/fields.hpp"
#include "wire/sync.hpp"

namespace hawser::wire {

template <typename Archive, Is<SyncOffer> T>
void fields(Archive& a, T& v) {
  a.bits128(v.layout);
  a.number(v.revision);
  a.bits128(v.root);
  a.choice(v.strategy, sync_strategy_count);
  a.boolean(v.newcomer);
  a.boolean(v.has_record);
  a.number(v.record_revision);
  a.bits128(v.record_root);
}

template <typename Archive, Is<TensorInfo> T>
void fields(Archive& a, T& v) {
  a.text(v.name, tensor_name_bytes_max);
  a.choice(v.dtype, dtype_count);
  a.number(v.count);
}

template <typename Archive, Is<SyncLayout> T>
void fields(Archive& a, T& v) {
  a.long_list(v.tensors, tensors_max);
}

template <typename Archive, Is<SyncHashRequest> T>
void fields(Archive& a, T& v) {
  a.number(v.first);
  a.number(v.count);
}

template <typename Archive, Is<Digest128> T>
void fields(Archive& a, T& v) {
  a.bits128(v);
}

template <typename Archive, Is<SyncHashes> T>
void fields(Archive& a, T& v) {
  a.number(v.first);
  a.long_list(v.hashes, sync_hashes_max);
}

template <typename Archive, Is<BlockRange> T>
void fields(Archive& a, T& v) {
  a.number(v.first);
  a.number(v.count);
}

template <typename Archive, Is<SyncBlockRequest> T>
void fields(Archive& a, T& v) {
  a.list(v.ranges, sync_request_blocks_max);
}

}  // namespace hawser::wire
