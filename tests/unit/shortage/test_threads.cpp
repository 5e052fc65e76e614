// The n-th thread cannot be started: RESOURCE that says so, nothing left behind, and the next attempt works.
#include <string>

#include "failing.hpp"
#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)
using failing::What;
using failing::Where;

TEST_CASE("no thread for a coordinator", "[shortage]") {
  hawser_coordinator_t* coordinator = nullptr;
  hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
  config.listen = "localhost:0";  // the lookup of the name is the first
  hawser_status_t status = HAWSER_INTERNAL;
  const long failures = failing::sweep(
      What::thread, Where::caller, [&] { status = hawser_coordinator_start(&config, &coordinator); },
      [&](bool failed) {
        INFO(hawser_last_error());
        CHECK(status == (failed ? HAWSER_RESOURCE : HAWSER_OK));
        if (failed) CHECK(std::string(hawser_last_error()).find("thread") != std::string::npos);
      });
  CHECK(failures == 2);
  CHECK(hawser_coordinator_destroy(coordinator) == HAWSER_OK);
}

TEST_CASE("no thread for a member", "[shortage]") {
  const Coordinator coordinator;
  hawser_comm_config_t config = config_for(coordinator, 1);
  config.io_threads = 3;
  const Comm comm(config);
  hawser_status_t status = HAWSER_INTERNAL;
  const long failures = failing::sweep(
      What::thread, Where::caller, [&] { status = hawser_comm_join(comm.get(), 0); },
      [&](bool failed) {
        INFO(hawser_last_error());
        CHECK(status == (failed ? HAWSER_RESOURCE : HAWSER_OK));
        if (failed) CHECK(std::string(hawser_last_error()).find("thread") != std::string::npos);
      });
  CHECK(failures == 5);  // the control thread, that of the light strands, and three
  CHECK(hawser_barrier(comm.get(), nullptr, nullptr) == HAWSER_OK);
}

TEST_CASE("no thread to look up the coordinator's name", "[shortage]") {
  const Coordinator coordinator;
  hawser_comm_config_t config = config_for(coordinator, 1);
  const std::string address = "localhost" + coordinator.address().substr(coordinator.address().rfind(':'));
  config.coordinators = address.c_str();
  const Comm comm(config);
  hawser_status_t status = HAWSER_INTERNAL;
  const long failures = failing::sweep(
      What::thread, Where::member, [&] { status = hawser_comm_join(comm.get(), 0); },
      [&](bool failed) {
        INFO(hawser_last_error());
        CHECK(status == (failed ? HAWSER_RESOURCE : HAWSER_OK));
      });
  CHECK(failures == 1);
}
