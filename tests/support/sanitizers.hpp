// Which sanitizers this is built with, of every compiler: HAWSER_TEST_UNDER_TSAN, HAWSER_TEST_SANITIZED (that or
// another).
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAWSER_TEST_UNDER_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define HAWSER_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(HAWSER_TEST_UNDER_TSAN)
#define HAWSER_TEST_UNDER_TSAN 1
#endif
#if (defined(__SANITIZE_ADDRESS__) || defined(HAWSER_TEST_UNDER_TSAN)) && !defined(HAWSER_TEST_SANITIZED)
#define HAWSER_TEST_SANITIZED 1
#endif
