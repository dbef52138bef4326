"""OV2Seg: masks and open-vocabulary classes per frame, joined by a memory of queries (Wang et al., ICCV 2023)."""
