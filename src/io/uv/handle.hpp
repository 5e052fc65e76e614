// How objects own libuv handles. libuv keeps using a handle until its close callback, which comes later than the wish
// to close it; so the handle lives in a state of its own that keeps itself alive until then, and the owner's object may
// be destroyed at any time on the loop's thread, inside its own callbacks too. After the loop has ended, any thread may
// destroy it.
#pragma once

#include <uv.h>

#include <memory>
#include <utility>

namespace hawser::io {

class HandleState {
 public:
  HandleState() = default;
  virtual ~HandleState() = default;
  HandleState(const HandleState&) = delete;
  HandleState& operator=(const HandleState&) = delete;

  // After the handle's uv_..._init succeeded: from now on the state lives until the handle is closed.
  void attach(uv_handle_t* handle, std::shared_ptr<HandleState> self) {
    handle_ = handle;
    handle_->data = this;
    self_ = std::move(self);
  }
  // What keeps the state alive; null once it is closed for good.
  [[nodiscard]] const std::shared_ptr<HandleState>& shared_self() const { return self_; }
  [[nodiscard]] bool open() const { return handle_ != nullptr; }
  // Stops every callback at once and frees the state soon. More than once is fine.
  void close() {
    if (handle_ == nullptr) return;
    uv_handle_t* handle = std::exchange(handle_, nullptr);
    uv_close(handle, [](uv_handle_t* closed) {
      // The last reference may be this one, and what it held may close other handles.
      const std::shared_ptr<HandleState> self = std::move(static_cast<HandleState*>(closed->data)->self_);
    });
  }
  // The loop is ending: close, and let go of what callbacks hold.
  virtual void abandon() { close(); }

 private:
  uv_handle_t* handle_ = nullptr;
  std::shared_ptr<HandleState> self_;
};

}  // namespace hawser::io
