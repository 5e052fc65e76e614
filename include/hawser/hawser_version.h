/* The version of the library, for the preprocessor. The wire has a version of its own: docs/protocol.md. */
#ifndef HAWSER_VERSION_H
#define HAWSER_VERSION_H

#define HAWSER_VERSION_MAJOR 0
#define HAWSER_VERSION_MINOR 1
#define HAWSER_VERSION_PATCH 0
#define HAWSER_VERSION_STRING "0.1.0"
/** One number that grows with the version: 10000 * major + 100 * minor + patch. */
#define HAWSER_VERSION_NUMBER \
  (10000 * HAWSER_VERSION_MAJOR + 100 * HAWSER_VERSION_MINOR + HAWSER_VERSION_PATCH)

#endif
