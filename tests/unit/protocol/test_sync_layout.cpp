// Layouts of shared state: what may be added, the block map, the Merkle root, and the sentence about a difference.
#include <limits>
#include <string>
#include <vector>

#include "protocol/sync/layout.hpp"
#include "support/catch.hpp"
#include "wire/checksum.hpp"

using namespace hawser;
using namespace hawser::protocol;

namespace {

struct Tensor {
  std::string name;
  Dtype dtype = Dtype::u8;
  std::uint64_t count = 0;
};

Layout layout_of(const std::vector<Tensor>& tensors) {
  Layout layout;
  for (const Tensor& tensor : tensors) REQUIRE(layout.add(tensor.name, tensor.dtype, tensor.count).ok());
  return layout;
}

std::string difference(const std::vector<Tensor>& one, const std::vector<Tensor>& other) {
  const Layout left = layout_of(one), right = layout_of(other);
  const std::string text = first_difference("rank 0 (a)", left.description(), "rank 2 (c)", right.description());
  CHECK(text.empty() == (left.digest() == right.digest()));
  return text;
}

std::vector<wire::Digest128> leaves(std::size_t count) {
  std::vector<wire::Digest128> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back({i * 0x9e3779b97f4a7c15ULL, ~i});
  return out;
}

}  // namespace

TEST_CASE("tensors are cut into blocks that are numbered through", "[protocol][sync]") {
  const Layout layout = layout_of({{"empty", Dtype::f64, 0},
                                   {"scalar", Dtype::f32, 1},
                                   {"one block", Dtype::u8, sync_block_bytes},
                                   {"void", Dtype::u8, 0},
                                   {"two and a bit", Dtype::u16, sync_block_bytes + 1},
                                   {"last", Dtype::i8, 0}});
  CHECK(layout.bytes() == 4 + sync_block_bytes + 2 * sync_block_bytes + 2);
  REQUIRE(layout.blocks() == 5);
  CHECK(layout.block(0) == Block{1, 0, 4});
  CHECK(layout.block(1) == Block{2, 0, sync_block_bytes});
  CHECK(layout.block(2) == Block{4, 0, sync_block_bytes});
  CHECK(layout.block(3) == Block{4, sync_block_bytes, sync_block_bytes});
  CHECK(layout.block(4) == Block{4, 2 * sync_block_bytes, 2});
  CHECK(layout.first_block(0) == 0);
  CHECK(layout.first_block(3) == 2);
  CHECK(layout.first_block(5) == 5);
  CHECK(layout.find("void") == 3U);
  CHECK_FALSE(layout.find("nowhere"));
  CHECK(Layout().blocks() == 0);
}

TEST_CASE("what may not be added to a layout", "[protocol][sync]") {
  Layout layout = layout_of({{"w", Dtype::f32, 10}});
  const wire::Digest128 before = layout.digest();
  const auto code = [&](const std::string& name, Dtype dtype, std::uint64_t count) {
    const Status status = layout.add(name, dtype, count);
    CHECK(status.ok() == status.text().empty());
    return status.code();
  };
  CHECK(code("w", Dtype::f32, 10) == Code::INVALID_ARGUMENT);
  CHECK(code("", Dtype::f32, 10) == Code::INVALID_ARGUMENT);
  CHECK(code(std::string(256, 'x'), Dtype::f32, 1) == Code::INVALID_ARGUMENT);
  CHECK(code("line\n", Dtype::f32, 1) == Code::INVALID_ARGUMENT);
  CHECK(code("\xff", Dtype::f32, 1) == Code::INVALID_ARGUMENT);
  CHECK(code("huge", Dtype::u8, std::numeric_limits<std::uint64_t>::max()) == Code::INVALID_ARGUMENT);
  CHECK(code("huge", Dtype::f64, std::uint64_t{1} << 61) == Code::INVALID_ARGUMENT);
  CHECK(layout.digest() == before);
  CHECK(layout.tensors().size() == 1);
  CHECK(code("half", Dtype::u8, std::uint64_t{1} << 62) == Code::OK);
  CHECK(code("other half", Dtype::u8, std::uint64_t{1} << 62) == Code::INVALID_ARGUMENT);  // the sum is too much
  CHECK(code(std::string(255, 'x'), Dtype::f32, 1) == Code::OK);
}

TEST_CASE("a layout's description fits one message", "[protocol][sync]") {
  Layout names;
  Status status;
  std::size_t added = 0;
  for (; status.ok(); ++added) status = names.add(std::string(240, 'x') + std::to_string(100000 + added), Dtype::u8, 1);
  CHECK(status.code() == Code::RESOURCE);
  CHECK(added - 1 == (wire::sync_bytes_max - 5) / 257);
  CHECK(wire::encode_sync(names.description()).size() <= wire::sync_bytes_max);

  Layout many;
  for (std::size_t i = 0; i < wire::tensors_max; ++i) REQUIRE(many.add(std::to_string(i), Dtype::u8, 1).ok());
  CHECK(many.add("one more", Dtype::u8, 1).code() == Code::RESOURCE);
  CHECK(wire::decode_sync(wire::encode_sync(many.description())).ok());
}

TEST_CASE("the Merkle root depends on every leaf, their order, and the layout", "[protocol][sync]") {
  const wire::Digest128 layout{1, 2};
  for (const std::size_t count : {0U, 1U, 2U, 255U, 256U, 257U, 1000U, 65536U, 65537U}) {
    INFO(count);
    const auto all = leaves(count);
    const wire::Digest128 root = merkle_root(layout, all);
    CHECK(merkle_root(layout, all) == root);
    CHECK(merkle_root({1, 3}, all) != root);
    for (const std::size_t at : {std::size_t{0}, count / 2, count - 1}) {
      if (count == 0) break;
      auto changed = all;
      changed[at].low ^= 1;
      CHECK(merkle_root(layout, changed) != root);
    }
    if (count > 1) {
      auto swapped = all;
      std::swap(swapped.front(), swapped.back());
      CHECK(merkle_root(layout, swapped) != root);
    }
    CHECK(merkle_root(layout, leaves(count + 1)) != root);
  }
}

TEST_CASE("the Merkle tree is that of the protocol page", "[protocol][sync]") {
  // By hand: 257 leaves are two nodes of the first level and one of the second, then the root.
  const auto all = leaves(257);
  const auto hash = [](const std::vector<wire::Digest128>& children, std::uint64_t seed) {
    std::vector<std::uint8_t> bytes;
    for (const auto& child : children) {
      for (const std::uint64_t half : {child.high, child.low}) {
        for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(half >> shift));
      }
    }
    return wire::digest128(bytes, seed);
  };
  constexpr std::uint64_t level = std::uint64_t{1} << 62, root = ~std::uint64_t{0} - 1;
  const wire::Digest128 layout{7, 8};
  const auto left = hash({all.begin(), all.begin() + 256}, level + 1), right = hash({all[256]}, level + 1);
  CHECK(merkle_root(layout, all) == hash({layout, hash({left, right}, level + 2)}, root));
  CHECK(merkle_root(layout, leaves(1)) == hash({layout, leaves(1)[0]}, root));
  CHECK(merkle_root(layout, {}) == hash({layout}, root));
}

TEST_CASE("the first difference between two layouts is named", "[protocol][sync]") {
  const std::string begin = "layouts of the shared state differ: ";
  const Tensor a{"a", Dtype::f32, 4}, b{"b", Dtype::f32, 5}, c{"c", Dtype::u8, 6};
  CHECK(difference({a, b}, {a, b}).empty());
  CHECK(difference({}, {}).empty());
  CHECK(difference({a, b}, {a, {"b", Dtype::bf16, 5}}) ==
        begin + "tensor \"b\" is f32[5] at rank 0 (a) and bf16[5] at rank 2 (c)");
  CHECK(difference({a, b}, {a, {"b", Dtype::f32, 50}}) ==
        begin + "tensor \"b\" is f32[5] at rank 0 (a) and f32[50] at rank 2 (c)");
  CHECK(difference({a, b}, {a}) == begin + "tensor \"b\", f32[5] at rank 0 (a), is missing at rank 2 (c)");
  CHECK(difference({a}, {a, b}) == begin + "tensor \"b\", f32[5] at rank 2 (c), is missing at rank 0 (a)");
  CHECK(difference({a, c}, {a, b, c}) == begin + "tensor \"b\", f32[5] at rank 2 (c), is missing at rank 0 (a)");
  CHECK(difference({a, b, c}, {a, c}) == begin + "tensor \"b\", f32[5] at rank 0 (a), is missing at rank 2 (c)");
  CHECK(difference({a, b, c}, {a, c, b}) ==
        begin + "tensor number 1 is \"b\" at rank 0 (a) and \"c\" at rank 2 (c); add tensors in the same order");
  CHECK(difference({}, {c}) == begin + "tensor \"c\", u8[6] at rank 2 (c), is missing at rank 0 (a)");
}
