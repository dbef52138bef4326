"""OV2Seg: masks and open-vocabulary classes per frame, linked by a memory of queries (Wang et al., ICCV 2023)."""
