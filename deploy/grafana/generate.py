"""Makes dashboards/*.json of boards.py: ``python -m deploy.grafana.generate``. Knows the Grafana Foundation SDK.

The JSON is committed, so that Grafana needs no Python; ``tests/deploy/test_boards.py`` holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import stat as number
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as say
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

from deploy.grafana.boards import BOARDS
from deploy.grafana.learning import TRAINING
from deploy.grafana.panels import COLUMNS, Board, Panel, Query, Steps

FOLDER = Path(__file__).with_name("dashboards")
ALERTS = Path(__file__).parents[1] / "prometheus" / "alerts.rules.yml"
ALERT = re.compile(r"^ *- alert: (\w+)$", re.MULTILINE)
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNS = "label_values(farflung_learner_run_info, run)"
INSTANCES = 'label_values(farflung_learner_run_info{run=~"$run"}, instance)'
FILL, THIN_FILL = 60, 8  # percent, of areas that add up and of lines
BAR_TEXT, BAR_HEIGHT, COLUMN = 13, 48, 90  # pixels: letters and height of a bar, least width of a table's column

Builder = Any  # the SDK's builders of panels share their methods and no type


def made(board: Board) -> str:
    """Its JSON, the same each time."""
    builder = (
        dashboard.Dashboard(f"Farflung: {board.name}")
        .uid(board.uid)
        .description(board.question)
        .tags(["farflung"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(_variables(board.many))
        .annotation(_alerts(board.many))
        .link(dashboard.DashboardLink("Farflung").type(model.DashboardLinkType.DASHBOARDS).tags(["farflung"])
              .as_dropdown(True).keep_time(True).include_vars(True))
    )  # fmt: skip
    for number_, (panel, place) in enumerate(placed(board.panels), start=1):
        builder.with_panel(KINDS[panel.kind](panel).id(number_).grid_pos(place))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def placed(panels: Iterable[Panel]) -> Iterable[tuple[Panel, model.GridPos]]:
    """Each panel with its place: from left to right, on the next line where the grid ends."""
    x = y = height = 0
    for panel in panels:
        wide, high = panel.size
        if x + wide > COLUMNS:
            x, y, height = 0, y + height, 0
        yield panel, model.GridPos(h=high, w=wide, x=x, y=y)
        x, height = x + wide, max(height, high)


def _variables(many: bool) -> list[Any]:
    """Where the numbers are, and which run's; or, where many are shown, which runs'."""
    chosen = model.VariableOption(text="Prometheus", value="prometheus")
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").current(chosen)
    run = _listed("run", "Runs" if many else "Run", RUNS)
    return [source, _any(run)] if many else [source, run, _any(_listed("instance", "Learner", INSTANCES))]


def _listed(name: str, label: str, query: str) -> Builder:
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(model.VariableSort.ALPHABETICAL_ASC)


def _any(variable: Builder) -> Builder:
    every = model.VariableOption(text="All", value="$__all")
    return variable.multi(True).include_all(True).current(every)


def _alerts(many: bool) -> Any:
    """A mark where one of our alerts began to fire: of the chosen learners, of an actor, or of no instance at all.

    Those of no instance are asked for by name: other rules of the same Prometheus have such alerts too.
    """
    ours = "|".join(ALERT.findall(ALERTS.read_text(encoding="utf-8")))
    firing = f'ALERTS{{alertstate="firing",alertname=~"{ours}"'
    places = "" if many else ',instance=~"$instance|"'
    actors = "" if many else f' or {firing},job="farflung-actor"}}'
    expr = f"{firing}{places}}}{actors}"
    return dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red").expr(expr)


def _common(builder: Builder, panel: Panel) -> Builder:
    builder.title(panel.title).description(panel.says).datasource(SOURCE).unit(panel.unit)
    builder.thresholds(_steps(panel.steps))
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    for name, query in zip("ABCDEFGH", panel.queries, strict=False):
        builder.with_target(_target(name, query, panel))
    return builder


def _target(name: str, query: Query, panel: Panel) -> Builder:
    target = prometheus.Dataquery().ref_id(name).datasource(SOURCE).expr(query.expr).legend_format(query.legend)
    if panel.kind == "heat":
        target.format(prometheus_model.PromQueryFormat.HEATMAP)
    if panel.kind == "table":
        target.format(prometheus_model.PromQueryFormat.TABLE)
    return target.instant() if panel.kind in ("bars", "table") else target.range()


def _steps(steps: Steps) -> Builder:
    marks = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(marks)


def _stat(panel: Panel) -> Builder:
    return (
        _common(number.Panel(), panel)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(say.BigValueColorMode.VALUE)
        .graph_mode(say.BigValueGraphMode.AREA)
    )


def _lines(panel: Panel) -> Builder:
    legend = common.VizLegendOptions().show_legend(True).display_mode(say.LegendDisplayMode.LIST)
    made = (
        _common(timeseries.Panel(), panel)
        .min(None if panel.unit == "none" or panel.log else 0.0)
        .line_width(2)
        .fill_opacity(THIN_FILL)
        .show_points(say.VisibilityMode.NEVER)
        .legend(legend.placement(say.LegendPlacement.BOTTOM).calcs(["lastNotNull"]))
        .tooltip(common.VizTooltipOptions().mode(say.TooltipDisplayMode.MULTI).sort(say.SortOrder.DESCENDING))
    )
    if panel.most is not None:
        made.max(panel.most)
    if panel.reach is not None:
        made.axis_soft_max(panel.reach)
    if panel.log:
        made.scale_distribution(common.ScaleDistributionConfig().type(say.ScaleDistribution.LOG).log(10))
    return made


def _stack(panel: Panel) -> Builder:
    stacking = common.StackingConfig().mode(say.StackingMode.NORMAL).group("A")
    return _lines(panel).stacking(stacking).fill_opacity(FILL).line_width(0)


def _heat(panel: Panel) -> Builder:
    axis = heatmap.YAxisConfig().unit(panel.unit).axis_placement(say.AxisPlacement.LEFT)
    return _coloured(_common(heatmap.Panel(), panel).calculate(False).y_axis(axis))


def _spread(panel: Panel) -> Builder:
    axis = heatmap.YAxisConfig().unit(panel.unit).axis_placement(say.AxisPlacement.LEFT).min(0)
    return _coloured(_common(heatmap.Panel(), panel).calculate(True).y_axis(axis))


def _coloured(builder: Builder) -> Builder:
    color = heatmap.HeatmapColorOptions().mode(heat_model.HeatmapColorMode.SCHEME).scheme("Blues").fill("dark-blue")
    return builder.color(color.exponent(0.5).steps(64).reverse(False)).cell_gap(1).show_legend().show_y_histogram()


def _bars(panel: Panel) -> Builder:
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = _common(bargauge.Panel(), panel).reduce_options(reduced).orientation(say.VizOrientation.HORIZONTAL)
    # Else a few bars fill the panel with letters, and of a long name three are left.
    made.text(common.VizTextDisplayOptions().title_size(BAR_TEXT).value_size(BAR_TEXT)).max_viz_height(BAR_HEIGHT)
    made.name_placement(say.BarGaugeNamePlacement.TOP)
    return made if panel.unit == "none" else made.min(0)


def _table(panel: Panel) -> Builder:
    """One line for each run. Grafana calls the values of query A `Value #A`; here they get their own names."""
    columns = {f"Value #{name}": query for name, query in zip("ABCDEFGH", panel.queries, strict=False)}
    named = {"renameByName": {name: query.legend for name, query in columns.items()}, "excludeByName": {"Time": True}}
    named["indexByName"] = {name: place for place, name in enumerate(("run", "env", "seed", *columns))}
    made = _common(table.Panel(), panel).min_width(COLUMN)
    made.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    made.with_transformation(model.DataTransformerConfig(id_val="organize", options=named))
    made.sort_by([common.TableSortByFieldState().display_name(panel.queries[1].legend).desc(True)])
    for query in panel.queries:
        if query.unit:
            made.override_by_name(query.legend, [model.DynamicConfigValue(id_val="unit", value=query.unit)])
    link = {"title": "Its training", "url": f"/d/{TRAINING.uid}?var-run=${{__value.text}}&${{__url_time_range}}"}
    return made.override_by_name("run", [model.DynamicConfigValue(id_val="links", value=[link])])


KINDS: dict[str, Callable[[Panel], Builder]] = {
    "stat": _stat,
    "lines": _lines,
    "stack": _stack,
    "heat": _heat,
    "spread": _spread,
    "bars": _bars,
    "table": _table,
}


def main() -> None:
    """Writes one file for each board."""
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(made(board), encoding="utf-8")


if __name__ == "__main__":
    main()
