"""The comparison of session services behind `benches/compare.py`.

`services` opens each of them, `operations` times them, `memory` weighs them, `correctness` asks whether
their answers are right, `report` shows the results.
"""
