// Runs a fuzz target without libFuzzer: once over every file of the folders or files given, over the empty input, and
// over a fixed number of random inputs and random changes of the corpus, from a printed seed. So each decoder's corpus
// is a regression test with every compiler.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(1);
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// One to four bytes overwritten, or the tail cut off, or bytes appended.
void mutate(Bytes& input, std::mt19937_64& random) {
  const auto byte = [&] { return static_cast<std::uint8_t>(random()); };
  const std::uint64_t kind = random() % 4;
  if (kind == 0 && !input.empty()) {
    input.resize(random() % input.size());
  } else if (kind == 1) {
    for (std::uint64_t left = random() % 32; left > 0; --left) input.push_back(byte());
  } else if (!input.empty()) {
    for (std::uint64_t left = 1 + random() % 4; left > 0; --left) input[random() % input.size()] = byte();
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::filesystem::path path = argv[i];
    if (std::filesystem::is_directory(path)) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
        if (entry.is_regular_file()) corpus.push_back(read(entry.path()));
      }
    } else {
      corpus.push_back(read(path));
    }
  }
  if (argc > 1 && corpus.empty()) {
    std::fprintf(stderr, "the corpus is empty\n");
    return 1;
  }
  constexpr std::uint64_t seed = 1;
  constexpr int random_inputs = 20000;
  std::printf("%zu files, %d changed or random inputs, seed %llu\n", corpus.size(), random_inputs,
              static_cast<unsigned long long>(seed));
  for (const Bytes& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  LLVMFuzzerTestOneInput(nullptr, 0);
  std::mt19937_64 random(seed);
  for (int i = 0; i < random_inputs; ++i) {
    Bytes input = corpus.empty() || i % 8 == 0 ? Bytes(random() % 512) : corpus[random() % corpus.size()];
    if (corpus.empty() || i % 8 == 0) {
      for (std::uint8_t& value : input) value = static_cast<std::uint8_t>(random());
    }
    mutate(input, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  return 0;
}
