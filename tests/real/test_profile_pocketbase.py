"""The real PocketBase in report-only: every request of its dashboard and of its own client is what its profile says."""

import pytest

from tests.real.platforms import ADMIN, PASSWORD, pocketbase
from tests.real.tour import tour, unexpected

__all__ = ["pocketbase"]

pytestmark = [pytest.mark.real, pytest.mark.browser]

REQUESTS = """
GET               /_/*                                                view
POST              /api/collections/_superusers/auth-with-password     view
GET|POST          /api/collections/_superusers/auth-*                 view
GET               /api/collections/_superusers/records                view
POST|PATCH|DELETE /api/collections/_superusers/records*               manage-access
PATCH             /api/collections/pbc_3142635823/records/*           manage-access
POST              /api/collections/users/impersonate/*                manage-access
PATCH             /api/collections/_superusers                        manage-access
POST              /api/collections/users/auth-with-password           use
GET|POST|PATCH    /api/collections/*/records*                         use
DELETE            /api/collections/orders/records/*                   use
DELETE            /api/collections/orders/truncate                    deploy
GET               /api/collections/meta/*                             view
POST              /api/collections/meta/dry-run-view                  build
PUT               /api/collections/import                             deploy
GET               /api/collections*                                  view
POST              /api/collections                                    deploy
PATCH|DELETE      /api/collections/*                                  deploy
POST              /api/batch#batch-access                             manage-access
POST              /api/batch#batch-form                               manage-access
POST              /api/batch                                          use
GET|POST          /api/realtime                                       use
POST              /api/files/token                                    use
GET               /api/files/*                                        use
GET               /api/settings                                       view
PATCH             /api/settings#settings-access                       manage-access
PATCH             /api/settings#settings-integration                  manage-integrations
PATCH             /api/settings                                       deploy
POST              /api/settings/test/email                            manage-integrations
GET               /api/backups                                        view
POST              /api/backups                                        export
GET               /api/backups/tour.zip                               export
DELETE            /api/backups/tour.zip                               deploy
GET               /api/crons                                          view
POST              /api/crons/*                                        use
GET               /api/logs*                                          view
POST              /api/sql                                            manage-access
GET               /api/health                                         use
"""

SCRIPTS = (
    """const fields = [{name: 'title', type: 'text'}, {name: 'plan', type: 'file', maxSelect: 1}];
       await pb.collections.update('orders', {fields});
       const order = await orders.create({title: 'first'});
       await orders.update(order.id, {title: 'second'});
       await orders.getFullList();
       await orders.delete(order.id);""",
    """const form = new FormData();
       form.append('title', 'with a file');
       form.append('plan', new Blob(['plan']), 'plan.txt');
       const order = await orders.create(form);
       await pb.files.getToken();
       await (await fetch(pb.files.getURL(order, order.plan))).text();""",
    """const user = await pb.collection('users').create({email: 'u@example.com', ...secret});
       await pb.collection('users').impersonate(user.id, 60);
       await new pb.constructor(pb.baseURL).collection('users').authWithPassword('u@example.com', secret.password);""",
    """const root = pb.collection('_superusers');
       const boss = await root.create({email: 'b@example.com', ...secret});
       await root.getFullList();
       await pb.collection('pbc_3142635823').update(boss.id, {email: 'c@example.com'});
       await root.delete(boss.id);
       await root.authRefresh();
       await pb.collections.update('_superusers', {otp: {enabled: false}});""",
    """await pb.settings.update({smtp: {enabled: false}});
       await pb.settings.update({batch: {enabled: true}});
       await pb.settings.testEmail('users', 'nobody@example.com', 'verification').catch(() => 0);""",
    """const form = pb.createBatch();
       form.collection('orders').create({title: 'in a form'});
       await form.send();
       const batch = (method, url) => pb.send('/api/batch', {method: 'POST', body: {requests: [{method, url}]}});
       await batch('POST', '/api/collections/orders/records');
       await batch('DELETE', '/api/collections/_SUPERUSERS/records/nobody').catch(() => 0);""",
    """await orders.subscribe('*', () => 0);
       await orders.unsubscribe();""",
    """await pb.backups.create('tour.zip');
       await (await fetch(pb.backups.getDownloadURL(await pb.files.getToken(), 'tour.zip'))).blob();
       await pb.backups.delete('tour.zip');""",
    """await pb.crons.run((await pb.crons.getFullList())[0].id);
       await pb.send('/api/sql', {method: 'POST', body: {query: 'select 1'}});
       await pb.send('/api/collections/meta/dry-run-view', {method: 'POST', body: {query: 'select id from orders'}});""",
    """await pb.logs.getList();
       await pb.backups.getFullList();
       await pb.settings.getAll();
       await pb.health.check();""",
    """await pb.collections.import([await pb.collections.getOne('orders')], false);
       await pb.collections.truncate('orders');
       await pb.collections.delete('orders');""",
)
"""What the dashboard's further buttons do, by the client that it uses itself."""


async def test_every_request_of_a_tour_through_pocketbase_has_the_action_it_should(pocketbase):
    async with tour("pocketbase", pocketbase().port) as it:
        page = it.page

        async def call(script):
            names = "pb = app.pb, orders = pb.collection('orders')"
            secret = "{password: 'password-1', passwordConfirm: 'password-1'}"
            await page.evaluate(f"async () => {{ const {names}, secret = {secret}; {script} }}")

        await page.goto(f"{it.origin}/_/")
        await page.locator("input[name=identity], input[type=email]").first.fill(ADMIN)
        await page.locator("input[type=password]").fill(PASSWORD)
        await page.keyboard.press("Enter")

        await page.get_by_role("button", name="New collection").click()
        await page.get_by_placeholder("e.g. posts").fill("orders")
        await page.get_by_role("button", name="Create", exact=True).click()
        await page.get_by_role("button", name="New record").first.click()
        async with page.expect_response(lambda answer: answer.request.method == "POST"):
            await page.get_by_role("button", name="Create", exact=True).click()
        await page.goto(f"{it.origin}/_/#/settings")
        await page.locator("main input[type=text]").first.fill("Tour")
        async with page.expect_response(lambda answer: answer.request.method == "PATCH"):
            await page.get_by_role("button", name="Save changes").click()
        for place in ("settings/mail", "settings/storage", "settings/backups", "settings/crons", "settings/sql",
                      "settings/export-collections", "settings/import-collections", "logs",
                      "collections?collection=_superusers", "collections?collection=orders"):  # fmt: skip
            await page.goto(f"{it.origin}/_/#/{place}")
            await page.wait_for_load_state("networkidle")
        for script in SCRIPTS:
            await call(script)
        decisions = await it.decisions()
    assert unexpected(decisions, REQUESTS) == []
