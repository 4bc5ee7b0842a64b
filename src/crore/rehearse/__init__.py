"""The rehearsal: the trainer's own code as any rank, without the cluster; counted and compared."""
