// JupyterLab and Notebook show the page of what is published: a tile, a command and a menu entry open it.
import { ILayoutRestorer } from '@jupyterlab/application';
import {
  ICommandPalette,
  IFrame,
  IThemeManager,
  MainAreaWidget,
  ToolbarButton,
  WidgetTracker
} from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ILauncher } from '@jupyterlab/launcher';
import { IMainMenu } from '@jupyterlab/mainmenu';
import { LabIcon, refreshIcon } from '@jupyterlab/ui-components';

import drawing from './icon.svg';

const COMMAND = 'kdr-wsgi:published-files';
const CATEGORY = 'Kernel Data Relay';

const icon = new LabIcon({ name: 'kdr-wsgi:folder', svgstr: drawing });

/** Return the address of the page, in the theme that JupyterLab has now. */
function inTheme(address) {
  const theme = document.body.dataset.jpThemeLight === 'false' ? 'dark' : 'light';
  return `${address}?theme=${theme}`;
}

/** Return a tab's content that shows the page at `address`. */
function makeTab(address) {
  const content = new IFrame();
  const frame = content.node.querySelector('iframe');
  // The page is the server's own, and acts with the login of who looks at it, as in a tab of the browser.
  frame.removeAttribute('sandbox');
  frame.title = 'Published files';
  content.url = inTheme(address);
  content.title.label = 'Published files';
  content.title.icon = icon;
  content.title.closable = true;
  const tab = new MainAreaWidget({ content });
  tab.id = 'kdr-wsgi-published-files';
  tab.toolbar.addItem(
    'reload',
    new ToolbarButton({
      icon: refreshIcon,
      tooltip: 'Load the page again',
      onClick: () => {
        content.url = inTheme(address);
      }
    })
  );
  tab.toolbar.addItem(
    'browser',
    new ToolbarButton({
      label: 'Open in a browser tab',
      onClick: () => {
        window.open(address, '_blank', 'noopener');
      }
    })
  );
  return tab;
}

const plugin = {
  id: 'kdr-wsgi:plugin',
  description: 'Shows what is published through the Kernel Data Relay.',
  autoStart: true,
  optional: [ICommandPalette, ILauncher, IMainMenu, ILayoutRestorer, IThemeManager],
  activate: (app, palette, launcher, menu, restorer, themes) => {
    // The server extension says it; without that one there is no page.
    const route = PageConfig.getOption('kdrRoute');
    if (!route) {
      return;
    }
    const address = URLExt.join(PageConfig.getBaseUrl(), route, '_status');
    // Notebook has a page for each document, and no place for a tab.
    const hasTabs = !PageConfig.getOption('notebookPage');
    const tracker = new WidgetTracker({ namespace: 'kdr-wsgi' });
    let tab = null;

    app.commands.addCommand(COMMAND, {
      label: args => (args.isTile ? 'Published files' : 'Kernel Data Relay: published files'),
      caption: 'What kernels have published, who reads it, and how to end it',
      icon: args => (args.isPalette ? undefined : icon),
      execute: () => {
        if (!hasTabs) {
          window.open(address, '_blank', 'noopener');
          return;
        }
        if (!tab || tab.isDisposed) {
          tab = makeTab(address);
          void tracker.add(tab);
        }
        if (!tab.isAttached) {
          app.shell.add(tab, 'main');
        }
        app.shell.activateById(tab.id);
      }
    });
    themes?.themeChanged.connect(() => {
      if (tab && !tab.isDisposed) {
        tab.content.url = inTheme(address);
      }
    });
    palette?.addItem({ command: COMMAND, category: CATEGORY, args: { isPalette: true } });
    launcher?.add({ command: COMMAND, category: 'Other', rank: 10, args: { isTile: true } });
    menu?.viewMenu.addGroup([{ command: COMMAND }], 100);
    if (hasTabs) {
      void restorer?.restore(tracker, { command: COMMAND, name: () => 'published-files' });
    }
  }
};

export default plugin;
