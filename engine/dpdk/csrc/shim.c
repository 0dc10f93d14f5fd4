/* DPDK's inline functions, each as one symbol. No logic beyond that. */
#define _GNU_SOURCE
#include <stdio.h>

#include <rte_cycles.h>

#include "shim.h"

static overlane_log_sink log_sink;

static ssize_t
log_write(void *cookie, const char *text, size_t length)
{
	(void)cookie;
	log_sink(rte_log_cur_msg_loglevel(), text, length);
	return (ssize_t)length;
}

int
overlane_log_redirect(overlane_log_sink sink)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}

int
overlane_errno(void)
{
	return rte_errno;
}

unsigned int
overlane_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t
overlane_tsc(void)
{
	return rte_rdtsc();
}

struct rte_mbuf *
overlane_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int
overlane_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void
overlane_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void
overlane_mbuf_free_segment(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free_seg(mbuf);
}

uint16_t
overlane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t
overlane_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

uint16_t
overlane_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_prepare(port, queue, mbufs, count);
}
