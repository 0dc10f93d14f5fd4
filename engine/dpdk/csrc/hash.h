/* What the feature `hash` adds to the bindings. */
#ifndef OVERLANE_HASH_H
#define OVERLANE_HASH_H

#include <rte_hash.h>

static const uint8_t OVERLANE_HASH_LOCK_FREE = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
static const int OVERLANE_HASH_ANY_SOCKET = SOCKET_ID_ANY;

#endif
