// The `hawser` command: parses, runs one subcommand on the main thread, turns failures into a sentence and an exit
// code.
#include <fmt/format.h>

#include <cstdio>
#include <new>

#include "command.hpp"

int main(int argc, char** argv) {
  CLI::App app{"Hawser: fault-tolerant collective communication", "hawser"};
  app.set_version_flag("--version", fmt::format("hawser {}", HAWSER_VERSION_STRING));
  app.require_subcommand(1);
  app.footer(
      tool::footer("  hawser bench all-reduce --spawn 4                     measure on this machine\n"
                   "  hawser stress --spawn 4 --seconds 30 --kill-every 5   kill peers, check every value\n"
                   "  hawser coordinator --listen 0.0.0.0:4900              serve the peers of a run\n"
                   "  hawser status 127.0.0.1:4900                          who is there, and what waits for what\n"
                   "  hawser COMMAND --help                                 options and examples of one command"));
  tool::Action action;
  tool::add_coordinator_command(app, action);
  tool::add_bench_command(app, action);
  tool::add_stress_command(app, action);
  tool::add_status_command(app, action);
  tool::add_info_command(app, action);

  try {
    app.parse(argc, argv);
    const int code = action();
    if (std::fflush(stdout) != 0) throw tool::Failure(tool::exit_failed, "standard output could not be written");
    return code;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tool::exit_ok : tool::exit_usage;
  } catch (const tool::Failure& failure) {
    fmt::print(stderr, "hawser: {}\n", failure.what());
    return failure.code();
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "hawser: out of memory\n");
    return tool::exit_resource;
  } catch (const std::exception& error) {
    fmt::print(stderr, "hawser: {}\n", error.what());
    return tool::exit_failed;
  }
}
