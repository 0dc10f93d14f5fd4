/* DPDK's inline functions and macros as symbols and constants that bindgen can see. */
#ifndef OVERLANE_SHIM_H
#define OVERLANE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Called with one message of DPDK's log: its level (RTE_LOG_*), bytes and their number. */
typedef void (*overlane_log_sink)(int level, const char *text, size_t length);

int overlane_log_redirect(overlane_log_sink sink);
int overlane_errno(void);
unsigned int overlane_lcore_id(void);
uint64_t overlane_tsc(void);

struct rte_mbuf *overlane_mbuf_alloc(struct rte_mempool *pool);
int overlane_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void overlane_mbuf_free(struct rte_mbuf *mbuf);
void overlane_mbuf_free_segment(struct rte_mbuf *mbuf);

uint16_t overlane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t overlane_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t overlane_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

#define OVERLANE_U64(name, value) static const uint64_t OVERLANE_##name = (value)

OVERLANE_U64(RX_L4_GOOD, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
OVERLANE_U64(RX_L4_NONE, RTE_MBUF_F_RX_L4_CKSUM_NONE);
OVERLANE_U64(RX_L4_MASK, RTE_MBUF_F_RX_L4_CKSUM_MASK);
OVERLANE_U64(RX_LRO, RTE_MBUF_F_RX_LRO);
OVERLANE_U64(TX_IPV4, RTE_MBUF_F_TX_IPV4);
OVERLANE_U64(TX_IPV6, RTE_MBUF_F_TX_IPV6);
OVERLANE_U64(TX_IP_CKSUM, RTE_MBUF_F_TX_IP_CKSUM);
OVERLANE_U64(TX_TCP_CKSUM, RTE_MBUF_F_TX_TCP_CKSUM);
OVERLANE_U64(TX_UDP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM);
OVERLANE_U64(TX_TCP_SEG, RTE_MBUF_F_TX_TCP_SEG);

OVERLANE_U64(RX_OFFLOAD_IPV4_CKSUM, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
OVERLANE_U64(RX_OFFLOAD_UDP_CKSUM, RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
OVERLANE_U64(RX_OFFLOAD_TCP_CKSUM, RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
OVERLANE_U64(RX_OFFLOAD_SCATTER, RTE_ETH_RX_OFFLOAD_SCATTER);
OVERLANE_U64(TX_OFFLOAD_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
OVERLANE_U64(TX_OFFLOAD_UDP_CKSUM, RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
OVERLANE_U64(TX_OFFLOAD_TCP_CKSUM, RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
OVERLANE_U64(TX_OFFLOAD_TCP_TSO, RTE_ETH_TX_OFFLOAD_TCP_TSO);
OVERLANE_U64(TX_OFFLOAD_MULTI_SEGS, RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
OVERLANE_U64(RSS_IP, RTE_ETH_RSS_IP);
OVERLANE_U64(RSS_TCP, RTE_ETH_RSS_TCP);
OVERLANE_U64(RSS_UDP, RTE_ETH_RSS_UDP);

static const uint32_t OVERLANE_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t OVERLANE_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t OVERLANE_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t OVERLANE_LOG_ERR = RTE_LOG_ERR;
static const uint32_t OVERLANE_LOG_WARNING = RTE_LOG_WARNING;
static const uint32_t OVERLANE_LOG_INFO = RTE_LOG_INFO;

#endif
