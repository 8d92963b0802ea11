"""What the dashboards share: how a panel looks, where it asks, and how a dashboard is put together.

A panel is a builder of grafana-foundation-sdk, which a dashboard still gives its size. The types are those
of Grafana 10.1 (schema 36); newer ones read them and bring them up to date by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from grafana_foundation_sdk.builders.prometheus import Dataquery

SOURCE_UID = "stream-detector-prometheus"
"""What provisioning/datasources calls our Prometheus."""
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
FLEET, DEVICE, SERVICE = "stream-detector-fleet", "stream-detector-device", "stream-detector-service"

GOOD, ODD, BAD, AWAY, NEW, VALUE = "green", "orange", "red", "purple", "blue", "yellow"
STATE_COLOURS = {"warming_up": NEW, "ok": GOOD, "alerting": BAD, "silent": AWAY}
SEVERITY_COLOURS = {"warning": ODD, "critical": BAD}

COUNT, SECONDS, BYTES, MESSAGES_A_SECOND = "short", "s", "bytes", "mps"
READINGS_A_SECOND, A_MINUTE = "suffix: readings/s", "suffix: /min"

Steps = tuple[tuple[float, str], ...]
"""From which value on which colour counts; below the first it is green."""
ANY_IS_BAD: Steps = ((1, BAD),)
THRESHOLD: Steps = ((1.0, BAD),)
"""Of a score: 1.0 is the threshold, whatever the model."""

Panel = TypeVar("Panel", heatmap.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)


# -- queries -------------------------------------------------------------------------------------------


def query(expr: str, legend: str = "") -> Dataquery:
    """Return a query over the time that is shown; `{{label}}` in the legend stands for a label."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE).range()


def by_reason(metric: str, matcher: str) -> list[Dataquery]:
    """Return a rate in all and by reason; reasons that do not occur are left out."""
    rate = f"rate({metric}{{{matcher}}}[$__rate_interval])"
    return [query(f"sum({rate})", "in all"), query(f"sum by (reason) ({rate}) > 0", "{{reason}}")]


def quantiles(histogram: str, matcher: str, label: str = "") -> list[Dataquery]:
    """Return the median and the 99th percentile of a histogram; for each value of a label if one is given."""
    by, of = (f"le, {label}", f" {{{{{label}}}}}") if label else ("le", "")
    buckets = f"sum by ({by}) (rate({histogram}_bucket{{{matcher}}}[$__rate_interval]))"
    return [
        query(f"histogram_quantile({share}, {buckets})", f"{name}{of}")
        for share, name in ((0.5, "half are below"), (0.99, "99 % are below"))
    ]


# -- panels --------------------------------------------------------------------------------------------


def number(title: str, description: str, *queries: Dataquery, unit: str, steps: Steps = ()) -> stat.Panel:
    """Return the newest value of each series as large numbers; what has ended shows none."""
    newest = [one.instant() for one in queries]
    panel = _dressed(stat.Panel(), title, description, newest, unit).thresholds(_thresholds(steps))
    panel.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.NONE)
    return panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))


def graph(
    title: str, description: str, *queries: Dataquery, unit: str, stacked: bool = False
) -> timeseries.Panel:
    """Return lines over time that begin at 0, or areas upon each other."""
    panel = _lines(title, description, queries, unit).min(0).fill_opacity(10)
    if stacked:
        panel.fill_opacity(60).stacking(parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    return panel


def band_graph(title: str, description: str, **queries: Dataquery) -> timeseries.Panel:
    """Return the series `value`, the band from `lower` to `upper`, and `expected` as a dashed line."""
    panel = _lines(title, description, [one.legend_format(name) for name, one in queries.items()], COUNT)
    blue, no_line = _property("color", _fixed(NEW)), _property("custom.lineWidth", 0)
    filled = [_property("custom.fillBelowTo", "lower"), _property("custom.fillOpacity", 20)]
    dashes = _property("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})
    panel.override_by_name("value", [_property("color", _fixed(VALUE)), _property("custom.lineWidth", 2)])
    panel.override_by_name("upper", [blue, no_line, *filled])
    panel.override_by_name("lower", [blue, no_line])
    return panel.override_by_name("expected", [blue, dashes])


def score_graph(title: str, description: str, *queries: Dataquery) -> timeseries.Panel:
    """Return scores over time, with the threshold as a line and what is above it on red."""
    panel = graph(title, description, *queries, unit=COUNT).decimals(2).axis_soft_max(1.2)
    style = parts.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.LINE_AND_AREA)
    return panel.thresholds(_thresholds(THRESHOLD)).thresholds_style(style)


def latency_map(title: str, description: str, histogram: str, matcher: str) -> heatmap.Panel:
    """Return how often which duration occurred, over time."""
    counts = query(f"sum by (le) (increase({histogram}_bucket{{{matcher}}}[$__rate_interval]))", "{{le}}")
    panel = _dressed(heatmap.Panel(), title, description, [counts.format(PromQueryFormat.HEATMAP)], SECONDS)
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    panel.color(colours).y_axis(heatmap.YAxisConfig().unit(SECONDS)).show_legend().show_tooltip()
    return panel.hide_from(parts.HideSeriesConfig())


def words_over_time(
    title: str, description: str, expr: str, words: Mapping[int, tuple[str, str]]
) -> statetimeline.Panel:
    """Return one bar over time; `words` says for each value what it means, and its colour."""
    panel = _dressed(statetimeline.Panel(), title, description, [query(expr, "judgement")], COUNT)
    legend = parts.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    panel.mappings([in_words(words)]).legend(legend.placement(common.LegendPlacement.BOTTOM).calcs([]))
    return panel.fill_opacity(70).line_width(0)


def listing(
    title: str, description: str, expr: str, *, unit: str, value: str, steps: Steps = ()
) -> table.Panel:
    """Return a table of the newest values with their labels; `value` is what their column is called."""
    newest = query(expr).instant().format(PromQueryFormat.TABLE)
    panel = _dressed(table.Panel(), title, description, [newest], unit).thresholds(_thresholds(steps))
    columns = {"excludeByName": {"Time": True}, "renameByName": {"Value": value}}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=columns))
    return panel.show_header(True)


def in_words(words: Mapping[int, tuple[str, str]]) -> dashboard.ValueMap:
    """Return values in words: for each value what it means, and its colour."""
    return dashboard.ValueMap(
        {
            str(value): dashboard.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(words.items())
        }
    )


def coloured(panel: Panel, colours: Mapping[str, str]) -> Panel:
    """Give series, by their names in the legend, colours of their own."""
    for name, colour in colours.items():
        panel.override_by_name(name, [_property("color", _fixed(colour))])
    return panel


def in_colour(panel: table.Panel, column: str) -> table.Panel:
    """Colour the cells of a column by the thresholds."""
    return panel.override_by_name(column, [_property("custom.cellOptions", {"type": "color-background"})])


def linked(panel: table.Panel, column: str, title: str, url: str) -> table.Panel:
    """Make the cells of a column links; `${__data.fields.name}` in the address is another cell of the row."""
    return panel.override_by_name(column, [_property("links", [{"title": title, "url": url}])])


def _lines(title: str, description: str, queries: Sequence[Dataquery], unit: str) -> timeseries.Panel:
    """Return lines over time, with the newest and the highest value of each below."""
    panel = _dressed(timeseries.Panel(), title, description, queries, unit)
    legend = parts.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE).show_legend(True)
    panel.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
    panel.tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    return panel.show_points(common.VisibilityMode.NEVER)


def _dressed(panel: Panel, title: str, text: str, queries: Sequence[Dataquery], unit: str) -> Panel:
    panel.title(title).description(text).datasource(SOURCE).unit(unit)
    for letter, one in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(one.ref_id(letter))
    return panel


# -- dashboards ----------------------------------------------------------------------------------------


def variable(name: str, label: str, values: str, *, several: bool = False) -> boards.QueryVariable:
    """Return a choice at the top; with `several` it starts with all of them."""
    made = boards.QueryVariable(name).label(label).query({"query": values, "refId": name}).datasource(SOURCE)
    made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(dashboard.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    if several:
        made.multi(True).include_all(True)
        made.current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return made


class Events(Builder[dashboard.AnnotationQuery]):
    """Marks on all graphs of a dashboard wherever an expression has a value above 0.

    Args:
        name: What the switch at the top of the dashboard is called.
        expr: The expression; neighbouring values make one mark.
        says: What a mark says; `{{label}}` stands for a label.
        colour: Its colour.
        shown: Whether the switch is on at first.
    """

    def __init__(self, name: str, expr: str, says: str, colour: str, *, shown: bool = True) -> None:
        self._made = _PrometheusEvents(name=name, datasource=SOURCE, enable=shown, icon_color=colour)
        self._made.expr, self._made.says = expr, says

    def build(self) -> dashboard.AnnotationQuery:
        """Return the annotation."""
        return self._made


class _PrometheusEvents(dashboard.AnnotationQuery):
    """An annotation with the words that the Prometheus data source takes, which the SDK does not know."""

    says = ""

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self.name, "textFormat": self.says}


def put_together(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[boards.QueryVariable],
    events: Sequence[Events],
    links: Mapping[str, str],
    panels: Sequence[Builder[dashboard.Panel] | boards.Row],
) -> dashboard.Dashboard:
    """Return a dashboard; its panels flow from left to right, 24 columns wide.

    Args:
        uid: Its address, which stays the same for ever.
        title: Its name.
        description: What it is for.
        variables: The choices at its top, after that of the data source.
        events: What is marked on its graphs.
        links: The other dashboards: what the link is called, and their uid.
        panels: Its panels, and the headings between them.
    """
    source = boards.DatasourceVariable("datasource").label("Data source").type("prometheus")
    source.current(dashboard.VariableOption(selected=True, text="Prometheus", value=SOURCE_UID))
    made = boards.Dashboard(title).uid(uid).description(description).tags(["stream_detector"])
    made.time("now-30m", "now").refresh("5s").timezone("browser")
    made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR).with_variable(source)
    for choice in variables:
        made.with_variable(choice)
    for event in events:
        made.annotation(event)
    for text, other in links.items():
        made.link(_link(text, f"/d/{other}?${{datasource:queryparam}}"))
    for panel in panels:
        if isinstance(panel, boards.Row):
            made.with_row(panel)
        else:
            made.with_panel(panel)
    board = made.build()
    for number, placed in enumerate(board.panels or [], 1):
        placed.id_val = number
    return board


def _link(title: str, url: str) -> boards.DashboardLink:
    made = boards.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).icon("dashboard")
    return made.url(url).keep_time(True)


def _thresholds(steps: Steps) -> boards.ThresholdsConfig:
    below = dashboard.Threshold(value=None, color=GOOD)
    above = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return boards.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([below, *above])


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def _property(name: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)
