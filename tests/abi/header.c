/* The public headers in a program of strict C and, by the same text, of strict C++: every _INIT macro makes a whole
 * struct. */
#include <hawser/hawser.h>
#include <hawser/hawser.h> /* twice does no harm */

#if HAWSER_VERSION_NUMBER != 10000 * HAWSER_VERSION_MAJOR + 100 * HAWSER_VERSION_MINOR + HAWSER_VERSION_PATCH
#error "the version is computable by the preprocessor"
#endif

int main(void) {
  hawser_coordinator_config_t coordinator = HAWSER_COORDINATOR_CONFIG_INIT;
  hawser_comm_config_t comm = HAWSER_COMM_CONFIG_INIT;
  hawser_view_t view = HAWSER_VIEW_INIT;
  hawser_member_t member = HAWSER_MEMBER_INIT;
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  hawser_metrics_t metrics = HAWSER_METRICS_INIT;
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  hawser_sync_info_t sync = HAWSER_SYNC_INFO_INIT;
  hawser_outer_param_t param = HAWSER_OUTER_PARAM_INIT;
  hawser_outer_config_t outer = HAWSER_OUTER_CONFIG_INIT;
  hawser_outer_info_t round = HAWSER_OUTER_INFO_INIT;
  hawser_status_t (*all_reduce)(hawser_comm_t*, const void*, void*, size_t, hawser_dtype_t, hawser_redop_t,
                                const hawser_op_options_t*, hawser_op_info_t*) = hawser_all_reduce;
  hawser_many_item_t item = HAWSER_MANY_ITEM_INIT;
  hawser_many_info_t many = HAWSER_MANY_INFO_INIT;
  int wrong = 0;
  wrong += coordinator.size != sizeof coordinator || comm.size != sizeof comm || view.size != sizeof view;
  wrong += member.size != sizeof member || options.size != sizeof options || info.size != sizeof info;
  wrong += compression.size != sizeof compression || sync.size != sizeof sync || param.size != sizeof param;
  wrong += outer.size != sizeof outer || round.size != sizeof round || outer.nesterov != 1;
  wrong += item.size != sizeof item || many.size != sizeof many;
  wrong += metrics.size != sizeof metrics || HAWSER_OK != 0 || all_reduce == NULL;
  return wrong;
}
