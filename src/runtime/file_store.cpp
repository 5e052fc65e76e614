// The store in a directory: io::FileLog does the work.
#include <utility>

#include "io/file_log.hpp"
#include "runtime/view_store.hpp"

namespace hawser::runtime {
namespace {

class FileStore : public ViewStore {
 public:
  explicit FileStore(std::string directory) : directory_(std::move(directory)) {}

  Result<Values> acquire() override {
    if (log_ == nullptr) {
      auto opened = io::FileLog::open(directory_);
      if (!opened.ok()) return opened.status();
      log_ = std::move(opened.value());
    }
    return log_->values();
  }
  Status put(std::uint64_t key, std::span<const std::uint8_t> value) override {
    if (log_ == nullptr) return {Code::REFUSED, describe() + ": a put before it was acquired"};
    const Status status = log_->put(key, value);
    // The lock is held as long as the process lives, so whatever failed, the store is ours.
    return status.ok() ? status : Status(Code::RESOURCE, status.text());
  }
  void cancel() override {}  // nothing here waits for others
  [[nodiscard]] std::string describe() const override { return "log directory " + directory_; }

 private:
  const std::string directory_;
  std::unique_ptr<io::FileLog> log_;
};

}  // namespace

std::unique_ptr<ViewStore> make_file_store(const std::string& directory) {
  return std::make_unique<FileStore>(directory);
}

}  // namespace hawser::runtime
