#include "shim.h"

#include <string.h>

int
_rte_errno(void)
{
	return rte_errno;
}

int
_rte_is_lcore(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

/*
 * capsule's Mbuf tells where its data are, and nobody outside capsule which mbuf that is. So an mbuf that capsule gets
 * has its own address in the last bytes of its headroom, where a header would go. False: it has no room for that.
 */
static inline int
sign(struct rte_mbuf *mbuf)
{
	if (rte_pktmbuf_headroom(mbuf) < sizeof(mbuf))
		return 0;
	memcpy(rte_pktmbuf_mtod(mbuf, char *) - sizeof(mbuf), &mbuf, sizeof(mbuf));
	return 1;
}

struct rte_mbuf *
_rte_pktmbuf_alloc(struct rte_mempool *pool)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	if (mbuf == NULL || sign(mbuf))
		return mbuf;
	rte_pktmbuf_free(mbuf);
	return NULL;
}

int
_rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	unsigned int i;
	int result = rte_pktmbuf_alloc_bulk(pool, mbufs, count);

	for (i = 0; result == 0 && i < count; i++) {
		if (!sign(mbufs[i])) {
			rte_pktmbuf_free_bulk(mbufs, count);
			result = -ENOBUFS;
		}
	}
	return result;
}

void
_rte_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void
_rte_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned int count)
{
	rte_mempool_put_bulk(pool, objects, count);
}

uint16_t
_rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	uint16_t i, kept = 0;
	uint16_t received = rte_eth_rx_burst(port, queue, mbufs, count);

	for (i = 0; i < received; i++) {
		if (likely(sign(mbufs[i])))
			mbufs[kept++] = mbufs[i];
		else
			rte_pktmbuf_free(mbufs[i]);
	}
	return kept;
}

uint16_t
_rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}
