// What the shared state's calls and the outer optimizer's share. Any thread.
#pragma once

#include "hawser/hawser.h"
#include "runtime/shared_state.hpp"

namespace hawser::api {

// Writes what the caller has room for. info_out may be NULL and was checked.
void write_sync_info(const runtime::SyncReport& report, hawser_sync_info_t* info_out);
Status check_sync_info(const hawser_sync_info_t* info_out);

}  // namespace hawser::api
