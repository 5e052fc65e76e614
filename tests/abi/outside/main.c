/* A world of one: starts a coordinator, joins it, reduces, leaves. Prints the version and exits 0 if all of it is
 * right. */
#include <hawser/hawser.h>
#include <stdio.h>
#include <string.h>

static int check(hawser_status_t status, const char* call) {
  if (status == HAWSER_OK) return 1;
  fprintf(stderr, "%s: %s: %s\n", call, hawser_status_string(status), hawser_last_error());
  return 0;
}

#define CHECK(call) \
  if (!check(call, #call)) return 1

int main(void) {
  hawser_coordinator_config_t coordinator_config = HAWSER_COORDINATOR_CONFIG_INIT;
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  hawser_view_t view = HAWSER_VIEW_INIT;
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  hawser_coordinator_t* coordinator = NULL;
  hawser_comm_t* comm = NULL;
  char address[64];
  const float send[3] = {1.5f, -2.0f, 0.25f};
  float recv[3] = {0, 0, 0};

  if (hawser_version() != HAWSER_VERSION_NUMBER) {
    fprintf(stderr, "the header is %d, the library %u\n", HAWSER_VERSION_NUMBER, (unsigned)hawser_version());
    return 1;
  }
  if (strcmp(hawser_status_name(HAWSER_PEER_LOST), "PEER_LOST") != 0) return 1;

  CHECK(hawser_coordinator_start(&coordinator_config, &coordinator));
  CHECK(hawser_coordinator_address(coordinator, address, sizeof address));
  config.coordinators = address;
  CHECK(hawser_comm_create(&config, &comm));
  CHECK(hawser_comm_join(comm, 10000));
  CHECK(hawser_comm_view(comm, &view));
  if (view.world_size != 1 || view.rank != 0) return 1;
  CHECK(hawser_all_reduce(comm, send, recv, 3, HAWSER_F32, HAWSER_AVG, NULL, &info));
  if (memcmp(send, recv, sizeof send) != 0 || info.participants != 1) return 1;
  CHECK(hawser_comm_leave(comm, 10000));
  CHECK(hawser_comm_destroy(comm));
  CHECK(hawser_coordinator_destroy(coordinator));
  printf("hawser %s\n", HAWSER_VERSION_STRING);
  return 0;
}
