"""``python -m tests.deploy.grafana``: panels drawn by Grafana's own front end, from real runs and a real Prometheus.

``measured``: what an environment measures of itself; ``scene``: the runs that are shown; ``alertmanager``: who hears of
alerts; ``tool``: Grafana's packages, bundled; ``app.jsx``, ``data.js``, ``heatmap.jsx``: the page; ``drawing``: that
page in Chromium; ``judging``: what is wrong with it.
"""
